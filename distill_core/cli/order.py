"""`distill order`: the class grid of a dataset, printed, drawn and scored, without distilling."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill_core.cli.choices import base_settings, own_settings, with_settings, with_sources
from distill_core.cli.tables import print_json, print_table
from distill_core.config.discovery import discover
from registry import OptionError

if TYPE_CHECKING:
    from distill_core.commands.order import Ordered

HEADERS = ("order", "score", "neighbour distance", "score on class-mean images")


@click.command()
@with_settings(("dataset", "orderer"))
@with_sources
@click.option("--grid", metavar="ROWSxCOLS", help="Class grid [default: the most square one].")
@click.option(
    "--compare",
    "rivals",
    multiple=True,
    metavar="ORDERER[:FIELD=VALUE,...]",
    help="Another orderer to compare with; can be given again.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Picture, .png [default: order-DATASET-ORDERER.png]; the grid is written beside it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with everything found.")
def command(
    *,
    dataset: str | None,
    orderer: str | None,
    config: Path | None,
    preset: str | None,
    overrides: tuple[str, ...],
    grid: str | None,
    rivals: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Show where an orderer puts the classes of a dataset; nothing is distilled or trained.

    The data and the orderer are those of the flags, the file or the preset; -o sets options of
    them and of the run. The grid is printed, drawn with the mean image of every class, and scored
    beside other orders as in the paper. Compared orderers also get those options of -o orderer.*
    that they have.
    The grid file can be used again: --orderer given -o orderer.file=FILE.
    """
    from distill_core.commands.order_request import read_request

    plugins = discover()
    request = read_request(
        own_settings({"dataset": dataset, "orderer": orderer}, overrides),
        plugins,
        weaker=base_settings(config, preset, plugins),
        grid=grid,
        rivals=rivals,
        out=_png(out),
    )
    from distill_core.commands.order import order_dataset  # heavy

    ordered = order_dataset(request)
    if as_json:
        print_json(ordered.as_dict())
    else:
        _print(ordered)
        if out is None:
            click.echo(f"both are in {Path.cwd()}; --out PICTURE.png names another place")


def _png(out: Path | None) -> Path | None:
    if out is not None and out.suffix.lower() != ".png":
        named = out / "order.png" if out.is_dir() else out.with_suffix(".png")
        raise OptionError(
            f"--out {out} is not a PNG file.",
            expected="a path that ends in .png.",
            next=f"pass --out {named}.",
        )
    return out


def _print(ordered: Ordered) -> None:
    from distill_core.layout.class_order import note_lines

    record: dict[str, Any] = ordered.as_dict()
    for note in ordered.data_notes:
        click.echo(f"data: {note}")
    rows, cols = record["grid_shape"]
    print_table(
        ("", *(str(col + 1) for col in range(cols))),
        [(str(row + 1), *names) for row, names in enumerate(record["grid"])],
        title=f"{record['dataset']} by {record['orderer']}, {rows}x{cols}",
    )
    for line in note_lines(record["notes"]):
        click.echo(line)
    click.echo()
    scores = [
        (s.order, f"{s.score:.5g}", f"{s.neighbour_distance:.5g}", f"{s.on_images:.5g}")
        for s in ordered.scores
    ]
    print_table(HEADERS, scores, title=f"Scores by {ordered.measured_by}")
    click.echo(
        f"Scores by {ordered.measured_by}: 1 over their sum over all pairs of neighbours; the "
        "highest is best."
    )
    click.echo(f"\npicture: {ordered.picture}\ngrid: {ordered.grid_file}")
    if ordered.earlier:
        click.echo(f"another grid was there: it is {ordered.earlier} now")

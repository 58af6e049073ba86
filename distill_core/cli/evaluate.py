"""`distill evaluate`: fresh networks on a result and on its controls, several backbones."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distill_core.cli.choices import changes, packages_of
from distill_core.cli.names import ComponentName
from distill_core.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from distill_core.commands.evaluation_record import CrossEvaluation
    from distill_core.evaluation.evaluate import Result
    from distill_core.evaluation.scores import Score

MAY_SET = ("backbone", "evaluate", "run.threads", "run.allocator")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--backbone",
    "backbones",
    multiple=True,
    type=ComponentName("backbone"),
    help="Network, such as timm:resnet18; again for more rows.",
)
@click.option("-o", "overrides", multiple=True, metavar="KIND.FIELD=VALUE", help="One option.")
@click.option("--nets", type=int, help="Fresh networks for mean and deviation.")
@click.option("--protocol", help="How they are trained: recipe, podd, rat, dc, mtt or frepo.")
@click.option(
    "--metrics", default="", help="Also compute DD-Ranking's scores: lrs, ars, or lrs,ars."
)
@click.option(
    "--split",
    default="test",
    show_default=True,
    help="test, or validation: to choose settings by; then nothing is written.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: results by backbone.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
def command(
    *,
    run: Path,
    backbones: tuple[str, ...],
    overrides: tuple[str, ...],
    nets: int | None,
    protocol: str | None,
    metrics: str,
    split: str,
    device: str,
    as_json: bool,
) -> None:
    """Train fresh networks on the result in RUN; mean and deviation, next to controls.

    RUN is the directory of a finished, running or interrupted run. The controls are random real
    images of the same pixel budget (and of as many bytes, if the result is not stored as float32
    pixels or was budgeted in bytes), and the full training set (kept in the cache). The numbers are
    also written to RUN/evaluation.
    """
    from distill_core.artefact.result_file import has_result
    from distill_core.config.discovery import discover
    from distill_core.config.networks import rows_of
    from distill_core.config.places import places_of
    from distill_core.config.run_config import CHOSEN, resolve
    from distill_core.run.directory import settings_of

    plugins = discover()
    settings = settings_of(run)
    with packages_of(run):
        # The artefact is enough; only a run without one needs what it is made with.
        needed = () if has_result(run) else CHOSEN
        allowed = (*MAY_SET, *places_of(resolve(settings, plugins, needed=needed)))
        changed = changes(overrides, {"nets": nets, "protocol": protocol}, allowed)
        configs = rows_of(
            settings, backbones, plugins, {**changed, "device": device}, needed=needed
        )

    from distill_core.commands.evaluate import cross_evaluate
    from distill_core.commands.evaluation_record import NotKeptError
    from distill_core.system.process import prepare

    click.echo(f"machine: {prepare(next(iter(configs.values())))}", err=True)

    def after_net(what: str, net: int, value: float) -> None:
        click.echo(f"{what}: network {net + 1} {100 * value:.2f} %", err=True)

    names = tuple(filter(None, (name.strip() for name in metrics.split(","))))
    try:
        found = cross_evaluate(
            run,
            configs,
            plugins,
            metrics=names,
            split=split,
            after_net=after_net,
            tell=partial(click.echo, err=True),
        )
    except NotKeptError as error:
        show(error.found, split, as_json=as_json)
        raise
    show(found, split, as_json=as_json)
    if as_json:
        return
    count = next(iter(configs.values())).evaluate.nets
    what = f"{count} networks: mean and sample deviation" if count > 1 else "1 network"
    where = f"saved in {run}/evaluation" if split == "test" else f"on the {split} split; not saved"
    click.echo(f"{what}; {where}")


def show(found: CrossEvaluation, split: str, *, as_json: bool) -> None:
    """Print what was found: tables, or one JSON object."""
    if as_json:
        print_json(found.as_dict())
        return
    show_results(found.results, split)
    if found.scores:
        show_scores(found.scores)
    click.echo(f"storage: {found.storage}")


def show_results(results: dict[str, dict[str, Result]], split: str) -> None:
    """Print the table: a backbone a row, distilled and controls the columns."""
    from distill_core.evaluation.judge import NAMES, balance_note

    columns = list(next(iter(results.values())))
    headers = ["backbone", *(NAMES[column] for column in columns)]
    body = [[row, *(str(found[column]) for column in columns)] for row, found in results.items()]
    print_table(headers, body, title=f"Accuracy on the {split} set")
    notes = {
        f"{where}{NAMES[column]}: {note}"
        for row, found in results.items()
        for column, result in found.items()
        for where, notes in ((f"{row}, ", balance_note(result)), ("", result.notes))
        for note in notes
    }
    for note in sorted(notes):
        click.echo(note)


def show_scores(scores: dict[str, dict[str, Score]]) -> None:
    """Print DD-Ranking's scores: a backbone a row."""
    columns = list(next(iter(scores.values())))
    headers = ["backbone", *(column.replace("_", ", ").upper() for column in columns)]
    body = [[row, *(str(found[column]) for column in columns)] for row, found in scores.items()]
    print_table(
        headers, body, title="DD-Ranking's scores (HLR and IOR in percent, others 0 to 100)"
    )
    click.echo(
        "Learning rates were chosen on the validation split; accuracies after the last step."
    )

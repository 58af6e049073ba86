"""`distill export`: a result as pictures, tensors, a dataset for the Hub, or for DD-Ranking."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from distill_core.cli.card import with_card
from distill_core.cli.tables import print_json
from distill_core.system.waiting import told_if_slow

FORMATS = ("images", "tensors", "huggingface", "dd-ranking")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    required=True,
    help="images: PNG in a folder for each class, and labels.json; tensors: safetensors; "
    "huggingface: pictures, metadata.jsonl, tensors and dataset card; dd-ranking: its input.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder [default: RUN/export/FORMAT; of what is no path, export/FORMAT here].",
)
@click.option("--force", is_flag=True, help="Replace an earlier export in that folder.")
@with_card
@click.option("--json", "as_json", is_flag=True, help="Print JSON: folder, files and notes.")
def command(
    *,
    run: Path,
    form: str,
    out: Path | None,
    force: bool,
    licence: str,
    title: str,
    exact_whitening: bool,
    as_json: bool,
) -> None:
    """Write the result in RUN for other tools.

    RUN is a run directory, the file of a result, gallery:NAME or hf://user/name. Pictures are
    un-whitened and rounded to bytes, for looking and for other pipelines; train on the tensors.
    """
    from distill_core.artefact.places import check_named, is_elsewhere

    check_named(run)
    beside = Path() if is_elsewhere(run) else run if run.is_dir() else run.parent
    target = out or beside / "export" / form
    with told_if_slow(partial(click.echo, err=True), f"export   writes {target}"):
        from distill_core.export import export

        first, *notes = export(
            run,
            target,
            form,
            force=force,
            licence=licence,
            title=title,
            exact_whitening=exact_whitening,
        )
    if as_json:
        written = (path for path in target.rglob("*") if path.is_file())
        files = sorted(path.relative_to(target).as_posix() for path in written)
        record = {"run": str(run), "format": form, "folder": str(target)}
        print_json({**record, "files": files, "notes": notes})
        return
    for line in (first, *notes):
        click.echo(line)

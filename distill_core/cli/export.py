"""`distill export`: a result as pictures in folders, or as plain tensors."""

from __future__ import annotations

from pathlib import Path

import click

FORMATS = ("images", "tensors")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    required=True,
    help="images: PNG in a folder for each class, and labels.json; tensors: safetensors.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: RUN/export/FORMAT].")
def command(run: Path, form: str, out: Path | None) -> None:
    """Write the result in RUN for other tools.

    RUN is a run directory, or a distilled.safetensors. Pictures are un-whitened and rounded to
    bytes, for looking and for other pipelines; train on the tensors.
    """
    from distill_core.export import export

    target = out or (run if run.is_dir() else run.parent) / "export" / form
    for line in export(run, target, form):
        click.echo(line)

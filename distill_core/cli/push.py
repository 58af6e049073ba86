"""`distill push`: a result as a dataset of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from distill_core.cli.card import with_card


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("repository", metavar="USER/NAME")
@with_card
@click.option("--private", is_flag=True, help="A new dataset that only you can see.")
def command(
    *,
    run: Path,
    repository: str,
    licence: str,
    title: str,
    exact_whitening: bool,
    private: bool,
) -> None:
    """Upload the result in RUN to the Hugging Face Hub as the dataset USER/NAME.

    What is sent is what `distill export --format huggingface` writes: look at that first. Log in
    with `hf auth login`, or set HF_TOKEN. Others load it by distill_core.load("hf://USER/NAME").
    """
    from distill_core.artefact.places import check_named

    check_named(run)
    from distill_core.export.hub import push

    address = push(
        run,
        repository,
        licence=licence,
        title=title,
        private=private,
        exact_whitening=exact_whitening,
    )
    click.echo(address)
    click.echo(f'Load it with distill_core.load("hf://{repository}").')

"""`distill cite`: BibTeX of what a run used."""

from __future__ import annotations

from pathlib import Path

import click

from distill_core.cli.tables import print_json


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: a list of components and options."
)
def command(*, run: Path, as_json: bool) -> None:
    """Print BibTeX of what the result in RUN used: distill, and the papers of its components
    and of values of their options.

    RUN is a run directory, the file of a result, gallery:NAME or hf://user/name. A component
    names its papers itself, that of a plugin too.
    """
    from distill_core.artefact.places import GALLERY, check_named

    check_named(run)
    from distill_core.artefact.artefact import read_about
    from distill_core.artefact.gallery import read_facts, with_source
    from distill_core.config.discovery import discover
    from distill_core.config.sources import bibtex, sources_of

    components = read_about(run).get("components", {})
    if str(run).startswith(GALLERY):  # its data may be a folder, which names no source
        dataset = read_facts(str(run).removeprefix(GALLERY))["dataset"]
        components = with_source(components, dataset)
    used = sources_of(components, discover())
    if not as_json:
        click.echo(bibtex(used), nl=False)
        return
    print_json(
        [
            {
                "kind": each.kind,
                "name": each.name,
                "source": each.source,
                "works": {work.key: work.fields for work in each.works},
                "missing": each.missing,
            }
            for each in used
        ]
    )

"""`distill list`: what can be chosen, from which plugin and version."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import click

from distill_core.cli.kinds import find_kind
from distill_core.cli.names import KindName
from distill_core.cli.others import OTHERS, PRESETS
from distill_core.cli.tables import print_listing
from distill_core.config.discovery import discover
from distill_core.hookspecs import KINDS
from registry import Kind, Plugins

HEADERS = ("kind", "name", "plugin", "version", "summary")
GALLERY = "gallery"


@click.command()
@click.argument("kind", required=False, type=KindName())
@click.option(
    "--filter", "pattern", help="Names like this only, such as 'resnet*'; also models of timm."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of records.")
def command(kind: str | None, pattern: str | None, as_json: bool) -> None:
    """Show what can be chosen, and who provides it.

    KIND is representation, labeler, orderer, algorithm, dataset or backbone; all without it. It may
    also be presets, plugins, or gallery: distilled sets that come with distill, for
    distill_core.load("gallery:NAME"). `distill show KIND NAME` explains one of the others.
    """
    word = (kind or "").strip().lower()
    if word == GALLERY:
        _list_gallery(pattern, as_json=as_json)
        return
    if word in OTHERS:
        _list_others(word, pattern, as_json=as_json)
        return
    kinds = KINDS if kind is None else (find_kind(kind),)
    plugins = discover()
    found = rows(plugins, kinds) if pattern is None else matching(plugins, kinds, pattern)
    print_listing(HEADERS, found, title="Components", as_json=as_json)
    if pattern is not None and not found:
        click.echo(f"Nothing is called {pattern}; a * stands for any letters.", err=True)
    failed = [failure.provider.entry_point for failure in plugins.failures]
    if failed:
        click.echo(
            f"{len(failed)} not loaded: {', '.join(failed)}. `distill plugins` says why.", err=True
        )


def _list_gallery(pattern: str | None, *, as_json: bool) -> None:
    from distill_core.artefact import gallery

    shown = [row for row in gallery.rows() if pattern is None or fnmatchcase(row[0], pattern)]
    print_listing(gallery.HEADERS, shown, title="Gallery", as_json=as_json)


def _list_others(kind: str, pattern: str | None, *, as_json: bool) -> None:
    """List what is no component, whose first column is its name."""
    from distill_core.cli import plugins as of_plugins
    from distill_core.cli import presets as of_presets
    from distill_core.config.discovery import collect_presets

    plugins = discover()
    found = collect_presets(plugins)
    headers: tuple[str, ...]
    if kind in PRESETS:
        headers, listed = of_presets.HEADERS, of_presets.rows(found)
    else:
        headers, listed = of_plugins.HEADERS, of_plugins.rows(plugins, found)
    shown = [row for row in listed if pattern is None or fnmatchcase(row[0], pattern)]
    print_listing(headers, shown, title=kind.capitalize(), as_json=as_json)
    for failure in (*plugins.failures, *found.failures):
        click.echo(f"{failure.provider} is broken; `distill plugins` says why.", err=True)


def rows(plugins: Plugins, kinds: Sequence[Kind]) -> list[tuple[str, ...]]:
    """Return one row of `HEADERS` for each component, by kind and name."""
    found: list[tuple[str, ...]] = []
    for kind in kinds:
        catalogue = plugins[kind.name]
        for name in catalogue:
            entry = catalogue.entry(name)
            provider = entry.provider
            version = f"{provider.distribution} {provider.version}"
            found.append((kind.name, name, provider.entry_point, version, entry.item.summary))
    return found


def matching(plugins: Plugins, kinds: Sequence[Kind], pattern: str) -> list[tuple[str, ...]]:
    """Return the rows whose names match a shell pattern, whole names of models among them.

    Args:
        plugins: what is installed.
        kinds: those that are listed.
        pattern: of a component ("convnet"), of a model ("resnet*"), or of both ("timm:res*").
    """
    from distill_core.config.named_models import all_models

    found: list[tuple[str, ...]] = []
    for row in rows(plugins, kinds):
        kind, name, plugin, version, _ = row
        if fnmatchcase(name, pattern):
            found.append(row)
        for model in all_models(plugins[kind][name].resolve_options()):
            whole = f"{name}:{model}"
            if fnmatchcase(model, pattern) or fnmatchcase(whole, pattern):
                found.append((kind, whole, plugin, version, ""))
    return found

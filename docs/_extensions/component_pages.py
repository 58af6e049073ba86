"""The component reference, from the catalogues: what `distill show` prints, and the source."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from distill_core.config.describe import (
    advanced_options,
    machine_options,
    rows,
    settings_rows,
)
from distill_core.config.settings import settings_models
from distill_core.hookspecs import KINDS
from registry import Components, Plugins


def component_pages(plugins: Plugins) -> dict[str, str]:
    """Return the page of every kind by name."""
    return {kind.name: _kind_page(plugins[kind.name]) for kind in KINDS}


def _kind_page(catalogue: Components) -> str:
    kind = catalogue.kind
    title = kind.name.capitalize() + "s"
    contract = kind.base.replace(":", ".")
    parts = [
        f"# {title}\n",
        f"Chosen with `--{kind.option} NAME`; options are set with "
        f"`-o {kind.option}.OPTION=VALUE`. The contract is {{py:class}}`~{contract}`.\n",
    ]
    for name in catalogue.names():
        parts.append(_component(catalogue, name))
    return "\n".join(parts)


def _component(catalogue: Components, name: str) -> str:
    entry, kind = catalogue.entry(name), catalogue.kind
    component = entry.item
    options = rows(catalogue.options(name), kind.option)
    parts = [
        f"({kind.name}-{name})=\n## {name}\n",
        f"{_escaped(component.summary)}. From plugin `{entry.provider.entry_point}`, "
        f"{entry.provider.distribution} {entry.provider.version}.\n",
        source_of(component.resolve_factory()),
        f"**Options of {name}**\n" if options else "No options.\n",
        *_listed(options, advanced_options(catalogue.options(name), kind.option)),
    ]
    return "\n".join(parts)


def settings_page() -> str:
    """Return the page of the settings that belong to no component."""
    parts = [
        "# Settings\n",
        "What belongs to no component. `distill show run`, `data`, `engine` and `evaluate` print "
        "the same.\n",
    ]
    for name, model in settings_models().items():
        text = inspect.getdoc(model) or ""
        parts += [f"(settings-{name})=\n## {name}\n", f"{text}\n"]
        listed, machine = settings_rows(name, model), machine_options()
        few = advanced_options(model, name)
        parts += _listed([row for row in listed if row[0] not in machine], few)
        if of_machine := [row for row in listed if row[0] in machine]:
            parts.append("**This machine**: where and how fast a run is computed.\n")
            parts += _listed(of_machine, few)
    return "\n".join(parts)


def _listed(options: Iterable[tuple[str, ...]], advanced: Collection[str]) -> Iterator[str]:
    """Yield an entry for each option; those that are rarely needed come last and say so."""
    for option, what, default, bounds, unit, text, source in sorted(
        options, key=lambda row: row[0] in advanced
    ):
        few = "rarely needed" if option in advanced else ""
        facts = ", ".join(
            [f"`{what}`", "required" if default == "required" else f"default `{default}`"]
            + [_escaped(fact) for fact in (bounds, few, unit and f"unit: {unit}") if fact]
        )
        yield f"`{option}`\n: {facts}\n\n  {_escaped(text)}\n"
        if source:
            yield f"  Source: {_escaped(source)}.\n"


def source_of(factory: Any) -> str:
    """Return the directive that prints a class's or function's text and links to its source."""
    if not (isinstance(factory, type) or inspect.isfunction(factory)):
        return ""
    directive = "autoclass" if isinstance(factory, type) else "autofunction"
    path = f"{factory.__module__}.{factory.__qualname__}"
    return f"```{{eval-rst}}\n.. {directive}:: {path}\n   :no-index:\n```\n"


def _escaped(text: str) -> str:
    for letter in "\\*_<>[]{}$":
        text = text.replace(letter, "\\" + letter)
    return text

"""What a run rests on: the papers of its components and of their options, which are theirs to name.

A component names its source in a paragraph `Source: ...` of its docstring, an option in its
`about`. The BibTeX of these works is `sources.bib`, in the folder of the plugin's module, or of
another plugin's; a plugin of yours has its own.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from distill_core import __version__
from distill_core.config.option_sources import in_effect
from distill_core.hookspecs import BY_OPTION
from registry import Entry, Plugins, UnknownNameError
from registry.bibtex import Work, named_in, read_bibtex
from registry.docstrings import source_of

SOURCES = "sources.bib"
DISTILL = f"""@software{{distill,
  title = {{distill: dataset distillation with plugins}},
  author = {{{{The distill authors}}}},
  version = {{{__version__}}},
  year = {{2026}},
}}"""


class Used(NamedTuple):
    """A component of a run, or the value of an option, and what it comes from.

    Attributes:
        kind: "algorithm", for example, or "option".
        name: of the component, or as "repr.downsample=2".
        source: its own words; empty if it names none.
        works: those of a `sources.bib` that the words name.
        missing: the distribution that has to be installed first; empty if it is there.
    """

    kind: str
    name: str
    source: str = ""
    works: tuple[Work, ...] = ()
    missing: str = ""


def sources_of(components: Mapping[str, Mapping[str, Any]], plugins: Plugins) -> tuple[Used, ...]:
    """Return what the components of a run come from, and values of options that name a work.

    Args:
        components: as a manifest has them, by short kind.
        plugins: what is installed.
    """
    everywhere = tuple(work for each in plugins.providers for work in _beside(each.module))
    return tuple(
        used
        for option, chosen in components.items()
        for used in _used(option, chosen, plugins, everywhere)
    )


def bibtex(used: tuple[Used, ...]) -> str:
    """Return BibTeX of distill and of all that was used, each once, with who needs it as comments.

    A source without an entry is one of type `misc`, with the component's words as a note.
    """
    lines = [f"% distill {__version__}", DISTILL, ""]
    written: set[str] = set()
    for each in used:
        lines.append(f"% {each.kind} {each.name}: {_remark(each)}")
        for key, text in _entries(each):
            if key not in written:
                lines += [text, ""]
            written.add(key)
    return "\n".join(lines).rstrip() + "\n"


def _used(
    option: str, chosen: Mapping[str, Any], plugins: Plugins, everywhere: tuple[Work, ...]
) -> Iterator[Used]:
    kind = BY_OPTION[option].name if option in BY_OPTION else option
    name = str(chosen["name"])
    try:
        entry = plugins[kind].entry(name)
    except (KeyError, UnknownNameError):
        yield Used(kind, name, missing=str(chosen.get("distribution", "its plugin")))
        return
    known, source = _works(entry, everywhere), source_of(entry.item)
    yield Used(kind, name, source, named_in(source, known))
    values = chosen.get("options") or {}
    for changed, words in in_effect(plugins[kind].options(name), values):
        if works := named_in(words, known):
            yield Used("option", f"{option}.{changed}={values[changed]}", words, works)


def _works(entry: Entry[Any], everywhere: tuple[Work, ...]) -> tuple[Work, ...]:
    """Return the works that the component's plugin knows, then those that others know beside."""
    factory = entry.item.factory
    own = factory.partition(":")[0] if isinstance(factory, str) else factory.__module__
    found: dict[str, Work] = {}
    for work in (*_beside(entry.provider.module), *_beside(own), *everywhere):
        found.setdefault(work.fields.get("eprint", work.key), work)
    return tuple(found.values())


def _beside(module: str) -> tuple[Work, ...]:
    """Read `sources.bib` beside a module; none without."""
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            return ()
        text = Path(spec.origin).with_name(SOURCES).read_text(encoding="utf-8")
    except (ImportError, ValueError, OSError):
        return ()
    return read_bibtex(text)


def _remark(used: Used) -> str:
    if used.missing:
        return f"install {used.missing}, which knows its source"
    return used.source or "names no source"


def _entries(used: Used) -> Iterator[tuple[str, str]]:
    """Yield key and text of each work, or what can be said without one."""
    yield from ((work.key, work.text) for work in used.works)
    if used.source and not used.works:
        key = re.sub(r"\W+", "-", f"{used.kind}-{used.name}")
        note = re.sub(r"([&%$#_{}])", r"\\\1", used.source)
        yield (
            key,
            f"@misc{{{key},\n  title = {{{used.kind} {used.name}}},\n  note = {{{note}}},\n}}",
        )

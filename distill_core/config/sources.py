"""What a run rests on: the papers of its components, which are theirs to name.

A component names its source in a paragraph `Source: ...` of its docstring. The BibTeX of these
works is `sources.bib`, in the folder of the plugin's module; a plugin of yours has its own.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from distill_core import __version__
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
    """A component of a run and what it comes from.

    Attributes:
        kind: "algorithm", for example.
        name: of the component.
        source: its own words; empty if it names none.
        works: those of its plugin's `sources.bib` that the words name.
        missing: the distribution that has to be installed first; empty if it is there.
    """

    kind: str
    name: str
    source: str = ""
    works: tuple[Work, ...] = ()
    missing: str = ""


def sources_of(components: Mapping[str, Mapping[str, Any]], plugins: Plugins) -> tuple[Used, ...]:
    """Return what the components of a run come from.

    Args:
        components: as a manifest has them, by short kind.
        plugins: what is installed.
    """
    return tuple(_used(option, chosen, plugins) for option, chosen in components.items())


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


def _used(option: str, chosen: Mapping[str, Any], plugins: Plugins) -> Used:
    kind = BY_OPTION[option].name if option in BY_OPTION else option
    name = str(chosen["name"])
    try:
        entry = plugins[kind].entry(name)
    except (KeyError, UnknownNameError):
        return Used(kind, name, missing=str(chosen.get("distribution", "its plugin")))
    source = source_of(entry.item)
    return Used(kind, name, source, named_in(source, _works(entry)))


def _works(entry: Entry[Any]) -> tuple[Work, ...]:
    """Read `sources.bib` beside the plugin's module, or beside the component's; none without."""
    factory = entry.item.factory
    own = factory.partition(":")[0] if isinstance(factory, str) else factory.__module__
    for module in (entry.provider.module, own):
        try:
            spec = importlib.util.find_spec(module)
            if spec is None or spec.origin is None:
                continue
            text = Path(spec.origin).with_name(SOURCES).read_text(encoding="utf-8")
        except (ImportError, ValueError, OSError):
            continue
        return read_bibtex(text)
    return ()


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

"""BibTeX files that lie beside plugins: their entries, and those that a source names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_ENTRY = re.compile(r"^@(\w+)\{([^,\s]+),\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Work:
    """One entry of a BibTeX file.

    Attributes:
        key: what a paper cites it by.
        text: the whole entry, as it is in the file.
        fields: its fields by name, in lower case.
    """

    key: str
    text: str
    fields: dict[str, str]

    def is_named_in(self, source: str) -> bool:
        """Say whether a text names this work: by arXiv number, or else by DOI or title."""
        said = source.casefold()
        if number := self.fields.get("eprint"):
            return re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", said) is not None
        names = (self.fields.get(name, "") for name in ("doi", "title"))
        return any(name and name.casefold() in said for name in names)

    @property
    def title(self) -> str:
        """Its title, without braces."""
        return self.fields.get("title", self.key).replace("{", "").replace("}", "")


def read_bibtex(text: str) -> tuple[Work, ...]:
    """Return the entries of a BibTeX file with a field on each line, as `sources.bib` has them.

    >>> (work,) = read_bibtex("@misc{own2026,\\n  title = {Mine},\\n}")
    >>> work.key, work.title, work.is_named_in("Own 2026, Mine, section 2")
    ('own2026', 'Mine', True)
    """
    return tuple(
        Work(key, whole[0], {name.lower(): value for name, value in _FIELD.findall(body)})
        for whole in _ENTRY.finditer(text)
        for _, key, body in [whole.groups()]
    )


def named_in(source: str, works: Iterable[Work]) -> tuple[Work, ...]:
    """Return the works that a text names, in the order of the file."""
    return tuple(work for work in works if work.is_named_in(source))

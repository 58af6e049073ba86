"""The results of `gpu.py`: one JSON file that is replaced whole after every cell, and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_core.system.files import remove_parts, write_atomically

BOOK, TABLE, PROFILE = "gpu.json", "gpu.md", "profile.txt"
TEXT = "text"  # a figure that is not a cell of the table: it has its own page
# Results are of the same thing where these are.
SAME = ("sources", "form", "card", "torch")
Made = Mapping[str, Any]


@dataclass
class Book:
    """What was found so far, by part and cell.

    Attributes:
        folder: where the files are.
        parts: a record of each part: `made` (how, on what), `cells`, `done`, `seconds`, `said`.
    """

    folder: Path
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    def open(folder: Path) -> Book:
        """Read what an earlier call found; a file that is not a book is neither used nor lost."""
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(folder)
        path = folder / BOOK
        if not path.exists():
            return Book(folder)
        try:
            parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
            assert isinstance(parts, dict)
            return Book(folder, parts)
        except (ValueError, KeyError, AssertionError):
            path.replace(path.with_suffix(".damaged"))
            return Book(folder)

    def finished(self, part: str, made: Made) -> bool:
        """Say whether a part was completed by the same code on the same card."""
        return bool(self._same(part, made) and self.parts[part]["done"])

    def begin(self, part: str, made: Made, *, again: bool = False) -> list[str]:
        """Open a part; return the cells that an unfinished call left, which are kept."""
        if again or not self._same(part, made) or self.parts[part]["done"]:
            self.parts[part] = {"cells": {}}
        record = self.parts[part]
        record |= {"made": dict(made), "done": False, "said": ""}
        record.setdefault("seconds", 0.0)
        return list(record["cells"])

    def add(self, part: str, cell: str, found: Mapping[str, Any]) -> None:
        """Keep what a cell gave, on the disk."""
        self.parts[part]["cells"][cell] = dict(found)
        self.save()

    def end(self, part: str, *, done: bool, seconds: float, said: str = "") -> None:
        """Close a part, and write everything."""
        record = self.parts[part]
        record |= {"done": done, "said": said, "seconds": round(record["seconds"] + seconds, 1)}
        self.save()
        write_atomically(self.folder / TABLE, self.markdown().encode())
        if pages := self.pages():
            write_atomically(self.folder / PROFILE, pages.encode())

    def skip(self, part: str, made: Made, why: str) -> None:
        """Say why a part was not measured; what is there from before stays."""
        if self._same(part, made):
            self.parts[part]["said"] = why
        else:
            self.begin(part, made)
        self.end(part, done=False, seconds=0.0, said=why)

    def save(self) -> None:
        """Replace the file."""
        text = json.dumps({"parts": self.parts}, indent=1)
        write_atomically(self.folder / BOOK, text.encode())

    def markdown(self) -> str:
        """Return the table of all parts."""
        return "\n".join(["# Measurements by benchmarks/gpu.py", *map(self._table, self.parts)])

    def pages(self) -> str:
        """Return what is told in pages of text, one after the other."""
        return "\n".join(
            f"{part}: {cell}\n\n{found[TEXT]}\n"
            for part, record in self.parts.items()
            for cell, found in record["cells"].items()
            if TEXT in found
        )

    def _same(self, part: str, made: Made) -> bool:
        old = self.parts.get(part, {}).get("made", {})
        return bool(old) and all(old.get(name) == made.get(name) for name in SAME)

    def _table(self, part: str) -> str:
        record = self.parts[part]
        lines = [f"\n## {part}\n", facts(record["made"], record["seconds"])]
        if record["said"]:
            lines.append(f"\n{record['said']}")
        if record["cells"]:
            lines += ["", *table(record["cells"])]
        return "\n".join(lines)


def facts(made: Made, seconds: float) -> str:
    """Return what a part was measured on, in a line."""
    told = [made["card"]]
    for name in ("driver", "torch", "triton", "python"):
        if made.get(name):
            told.append(f"{name} {made[name]}")
    told += [made["date"], f"commit {made.get('commit') or 'unknown'} ({made['sources']})"]
    if made["form"] != "published":
        told.append("tiny sizes: the figures mean nothing")
    return "; ".join([*told, f"{seconds:.0f} s"])


def table(cells: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the rows of a part: a column for every figure that any of its cells has."""
    columns = list(dict.fromkeys(name for found in cells.values() for name in found))
    columns = [name for name in columns if name not in {TEXT, "failed"}]
    lines = [row(["", *columns]), "|---" * (len(columns) + 1) + "|"]
    failed = []
    for cell, found in cells.items():
        if "failed" in found:
            failed.append(f"- {cell}: {found['failed']}")
        elif set(found) != {TEXT}:
            lines.append(row([cell, *(figure(found.get(name)) for name in columns)]))
    return [*(lines if len(lines) > 2 else []), *(["", "Not measured:", *failed] if failed else [])]


def row(values: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return "| " + " | ".join(value.replace("|", "/").replace("\n", " ") for value in values) + " |"


def figure(value: Any) -> str:
    """Write a figure for people.

    >>> figure(0.123456), figure(12345.6), figure(True), figure(None), figure([1.0, 2.0])
    ('0.1235', '12346', 'yes', '', '1, 2')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(figure(each) for each in value)
    return str(value)

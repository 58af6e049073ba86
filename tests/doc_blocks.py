"""The code blocks of the pages for readers, and the marker of one that cannot run in a test."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from glob import glob
from pathlib import Path

ROOT = Path(__file__).parents[1]
GENERATED = ("_build", "reference", "_extensions")
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n\s*)?"
    r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes:
        page: its file, from the root of the project.
        line: where its text begins.
        language: what stands after the fence.
        text: the code.
        reason: why it is not run, where the page says so.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, where its first line is `# NAME.EXTENSION`."""
        first = re.match(r"# ([\w/]+\.\w+)\n", self.text)
        return first[1] if first else None

    def commands(self) -> list[list[str]]:
        """Return the words of every command after a `$`, with patterns of files filled in."""
        joined = self.text.replace("\\\n", " ")
        lines = [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
        parts = [part for line in lines for part in line.split(" && ")]
        return [
            [name for word in shlex.split(part, comments=True) for name in _filled(word)]
            for part in parts
        ]


def pages() -> list[str]:
    """Return every page that people write, from the root of the project."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = [page.relative_to(ROOT) for page in found]
    return [str(name) for name in names if not set(name.parts) & set(GENERATED)]


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page,
            text[: match.start("text")].count("\n") + 1,
            match["language"],
            match["text"],
            match["reason"],
        )
        for match in _BLOCK.finditer(text)
    ]


def _filled(word: str) -> list[str]:
    return sorted(glob(word)) if "*" in word else [word]

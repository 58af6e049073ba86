"""Shards: which files belong to the training and the test part, by their names, and whether all
are there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from distill_core.plugin import InputError, shortened, shown

TRAIN, TEST, VAL, NO_PART = "train", "test", "validation", ""
WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("test", "testing"), TEST),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), VAL),
}
NUMBERED = re.compile(r"(.*?)(\d+)-of-(\d+)(.*)")


class Choice(NamedTuple):
    """Names of the parts to read.

    Attributes:
        train: the training part, or the one part that there is.
        test: parts that can be the test part, the first choice first; empty: it is held out.
        others: parts that are neither.
    """

    train: str
    test: tuple[str, ...]
    others: tuple[str, ...]

    def not_read(self, *known: str) -> tuple[str, ...]:
        """Return a sentence about the parts besides training and these; none if there are none."""
        left = [name for name in (*self.test, *self.others) if name not in known]
        return (f"not read: {_listed(left)}.",) if left else ()


def role(name: str) -> str:
    """Return the part that a file's name speaks of, or that of its folder; empty: none.

    >>> role("data/train-00000-of-00001.parquet"), role("val/0001.tar"), role("a/extra-0.tar")
    ('train', 'validation', '')
    """
    path = PurePosixPath(name)
    for text in (path.name, *(parent.name for parent in path.parents)):
        found = {WORDS[word] for word in re.findall("[a-z]+", text.lower()) if word in WORDS}
        if len(found) == 1:
            return found.pop()
        if found:
            raise InputError(
                f"{shown(name)} can be of two parts by its name: {' and '.join(sorted(found))}.",
                expected="one of train, test and validation in the name of a file.",
                next="rename it.",
            )
    return NO_PART


def by_role(files: Iterable[str]) -> dict[str, list[str]]:
    """Return files by the part that their names speak of."""
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(role(file), []).append(file)
    return found


def choose(parts: Mapping[str, Sequence[str]], where: Path) -> Choice:
    """Choose the training and the test part.

    Args:
        parts: files by the name of their part.
        where: for messages.

    Raises:
        InputError: there are several parts, and none is for training.
    """
    if len(parts) == 1:
        (only,) = parts
        return Choice(only, (), ())
    if TRAIN not in parts:
        raise InputError(
            f"{where} has no part for training, but has: {_listed(parts)}.",
            expected="a part named train, or one part alone.",
            next="point -o dataset.path to the folder of one part, or rename its files.",
        )
    test = tuple(name for name in (TEST, VAL) if name in parts)
    return Choice(TRAIN, test, tuple(name for name in parts if name not in (TRAIN, *test)))


def check_complete(files: Iterable[str], where: Path) -> None:
    """Refuse shards named as 00000-of-00005 of which some are missing; some count from 1.

    Raises:
        InputError: one is missing; it is named.
    """
    found: dict[tuple[str, str, str], set[int]] = {}
    for file in files:
        folder, slash, name = file.rpartition("/")
        if match := NUMBERED.fullmatch(name):
            start, number, total, _ = match.groups()
            found.setdefault((folder + slash, start, total), set()).add(int(number))
    for (folder, start, total), numbers in found.items():
        count = int(total)
        first = int(0 not in numbers and count in numbers)
        missing = sorted({*range(first, first + count)} - numbers) if count < 10**6 else []
        if missing:
            raise InputError(
                f"{where / folder} has {len(numbers)} of the {count} shards {shown(start)}*: "
                f"number {missing[0]} is missing.",
                expected="all shards.",
                next="restore it, or rename the others if they are meant to be all.",
            )


def listed(names: Iterable[str], empty: str = "''") -> str:
    """Return names for a sentence, the first ones if there are many.

    Args:
        names: any.
        empty: stands for a name without letters.

    >>> listed(["a", ""]), listed(map(str, range(99)))
    ("a, ''", '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 89 more')
    """
    return shortened([shown(name) if name else empty for name in names]) or "none"


def _listed(names: Iterable[str]) -> str:
    return listed(names, "files of no part")

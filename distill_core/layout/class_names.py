"""Class names as people write them: match them, and read class grids made of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

from distill_core.system.units import shortened
from registry import InputError


def match_names(wanted: Sequence[str], known: Sequence[str], *, source: str) -> list[int]:
    """Find names in a list, ignoring case, blanks, hyphens, underscores and forms of accents.

    Args:
        wanted: names to find.
        known: the list; an exact match has priority over a loose one.
        source: who asks, for the message.

    Returns:
        For each wanted name its index in `known`.

    Raises:
        InputError: some names are not in the list.

    >>> match_names(["Palm Tree"], ["oak_tree", "palm_tree"], source="example")
    [1]
    """
    index = {_plain(name): i for i, name in reversed(list(enumerate(known)))}
    index |= {name: i for i, name in reversed(list(enumerate(known)))}
    missing = [name for name in wanted if name not in index and _plain(name) not in index]
    if missing:
        raise InputError(
            f"{source}: no match for {_some(missing)}.",
            expected=f"names among: {_some(known)}.",
            next="correct the names.",
        )
    return [index[name] if name in index else index[_plain(name)] for name in wanted]


def grid_of_names(
    rows: Sequence[Sequence[str | int]],
    class_names: Sequence[str],
    grid_shape: tuple[int, int],
    *,
    source: str,
) -> Tensor:
    """Turn rows of class names or class numbers into a class grid.

    Args:
        rows: the grid, row by row; a whole number that is not a class name is a class number.
        class_names: K names in label order.
        grid_shape: the shape that the representation requires.
        source: where the rows come from, for messages.

    Returns:
        (rows, cols) int64, a permutation of the classes.

    Raises:
        InputError: the shape differs, a name is unknown, or a class is missing or repeated.
    """
    shape = (len(rows), len(rows[0]) if rows else 0)
    if shape != grid_shape or any(len(row) != shape[1] for row in rows):
        lengths = ", ".join(str(len(row)) for row in rows)
        raise InputError(
            f"{source} has {len(rows)} rows of {lengths} classes.",
            expected=f"{grid_shape[0]} rows of {grid_shape[1]}, the class grid that the "
            "representation asks for.",
            next="correct it, or give the representation that class grid "
            "(a poster: -o repr.classes=ROWSxCOLS).",
        )
    flat = [entry for row in rows for entry in row]
    names = [_name_of(entry, class_names) for entry in flat]
    order = match_names(names, class_names, source=source)
    missing = [name for i, name in enumerate(class_names) if i not in set(order)]
    if missing:
        doubled = sorted({class_names[i] for i in order if order.count(i) > 1})
        raise InputError(
            f"{source} lacks {_some(missing)} and has {_some(doubled)} more than once.",
            expected="every class exactly once.",
            next="correct it.",
        )
    return torch.tensor(order).reshape(grid_shape)


def _name_of(entry: str | int, class_names: Sequence[str]) -> str:
    text = str(entry).strip()
    if (
        text in class_names
        or not (text.isascii() and text.isdigit())
        or int(text) >= len(class_names)
    ):
        return text
    return class_names[int(text)]


def _plain(name: str) -> str:
    return "_".join(re.split(r"[\s_-]+", unicodedata.normalize("NFC", name).strip().lower()))


def _some(names: Sequence[str]) -> str:
    return shortened([repr(name) for name in names])

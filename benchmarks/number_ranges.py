"""Whole numbers of a command line: seeds, for example."""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """Return a whole number of at least 1.

    Raises:
        ArgumentTypeError: it is something else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1")
    return int(text)


def numbers(text: str) -> list[int]:
    """Return whole numbers, from ranges that include both ends.

    Raises:
        ArgumentTypeError: it is something else, or a range that goes down.

    >>> numbers("0-3,7")
    [0, 1, 2, 3, 7]
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(first) <= int(last))):
            raise argparse.ArgumentTypeError(f"{text!r}: whole numbers or ranges, such as 0-3,7")
        found += range(int(first), int(last or first) + 1)
    return found

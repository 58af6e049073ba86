"""Amounts of memory, counts, times and lists of names, as people write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from registry import OptionError

UNITS = {
    **{f"{letter}B": 1000**power for power, letter in enumerate(("K", "M", "G", "T"), start=1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate(("K", "M", "G", "T"), start=1)},
    **{letter: 1024**power for power, letter in enumerate(("K", "M", "G", "T"), start=1)},
}
QUIET_SECONDS = 15.0  # between two lines of progress


def parse_size(text: str, *, what: str, example: str = "4GiB", unitless: str = "") -> int:
    """Return the bytes of an amount such as "4GiB", "500MB" or "2.5G".

    KiB, MiB, GiB and TiB, or K, M, G and T, are powers of 1024; KB, MB, GB and TB are powers of
    1000. The unit is required.

    Args:
        text: the amount.
        what: the option it belongs to, for the message.
        example: an amount that the option may well have, for the message, too.
        unitless: what else the option takes, for the message.

    Raises:
        OptionError: it is not an amount with a unit, or not positive.

    >>> parse_size("500MB", what="size"), parse_size("1.5 GiB", what="size")
    (500000000, 1610612736)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text.strip(), re.ASCII)
    size = int(float(found[1]) * UNITS[found[2]]) if found and found[2] in UNITS else 0
    if size < 1:
        raise OptionError(
            f"option {what} = '{text}' is not an amount of memory.",
            expected=f"a number and a unit, for example {example}, 2.5G (the same as GiB) or 500MB "
            f"(powers of 1000){unitless and f', or {unitless}'}.",
            next=f"pass -o {what}={example}, for example; units are {', '.join(UNITS)}.",
        )
    return size


def size_text(size: float) -> str:
    """Write an amount of memory for people.

    >>> size_text(1610612736), size_text(3 * 2**20), size_text(5000)
    ('1.50 GiB', '3 MiB', '5 KiB')
    """
    if size >= 2**30:
        return f"{size / 2**30:.2f} GiB"
    return f"{size / 2**20:.0f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


def megabytes(size: int) -> str:
    """Write the size of a file or of free space, as tools for disks do.

    >>> megabytes(1_234_567_890)
    '1,234.6 MB'
    """
    return f"{size / 1e6:,.1f} MB"


def duration(seconds: float) -> str:
    """Write a time for people.

    >>> duration(3725), duration(179.6), duration(7199.6)
    ('1 h 02 min', '3 min 00 s', '2 h 00 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def counted(number: int, one: str, many: str = "") -> str:
    """Write how many there are of something.

    Args:
        number: of them.
        one: its name where it is alone.
        many: its name otherwise; empty: with an s.

    >>> counted(1, "canvas", "canvases"), counted(2000, "byte")
    ('1 canvas', '2,000 bytes')
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def shortened(names: Sequence[str], most: int = 10) -> str:
    """Return the first names, and how many more there are.

    >>> shortened(["a", "b", "c"], most=1)
    'a and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

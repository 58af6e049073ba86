"""Letters in pictures: a font of this machine that has those of a class name, or escapes."""

from __future__ import annotations

import logging
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

LOG = logging.getLogger("distill")
FIRST = ("DejaVu Sans", "Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP")
BOXES = "Last Resort"  # matplotlib brings this font, whose every letter is a box


@cache
def as_drawn(name: str) -> str:
    r"""Return a class name as a picture shows it: on one line, accents joined to their letters.

    Letters that no font of this machine has are written as escapes, and the log says so once.

    >>> as_drawn("palm\n tree")
    'palm tree'
    """
    text = " ".join(unicodedata.normalize("NFC", name).split())
    if text.isascii() or _file_for(frozenset(text)):
        return text
    escaped = text.encode("ascii", "backslashreplace").decode()
    if not _told():
        _told().append(text)
        LOG.warning(
            "picture  no font on this machine has all letters of the class '%s': pictures show %s, "
            "and so with others; install a font of that script, such as Noto Sans, for the letters "
            "themselves",
            text,
            escaped,
        )
    return escaped


@cache
def _told() -> list[str]:
    """Return the name that the log has spoken of, if it has: there may be thousands like it."""
    return []


def font_for(text: str, size: int) -> FreeTypeFont | ImageFont:
    """Return a font for a name from `as_drawn`: Pillow's own for ASCII, which is all that it has.

    Args:
        text: what will be written.
        size: height in pixels.
    """
    return _font(None if text.isascii() else _file_for(frozenset(text)), size)


@cache
def _font(file: str | None, size: int) -> FreeTypeFont | ImageFont:
    """Load a font, once for all names: a new one takes ten times as long as writing with it."""
    from PIL import ImageFont

    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size=size)


@cache
def _file_for(letters: frozenset[str]) -> str | None:
    """Return the first font file that has all letters, or None."""
    wanted = {ord(letter) for letter in letters}
    return next((file for file in _files() if wanted <= _letters(file)), None)


@cache
def _files() -> tuple[str, ...]:
    """Return the upright fonts of this machine and matplotlib's, common ones first."""
    from matplotlib.font_manager import fontManager

    found = {
        (font.name not in FIRST, font.name, str(font.weight) not in ("400", "normal"), font.fname)
        for font in fontManager.ttflist
        if font.style == "normal" and not font.name.startswith(BOXES)
    }
    return tuple(file for *_, file in sorted(found))


@cache
def _letters(file: str) -> frozenset[int]:
    """Return the code points that a font has; none if its file is gone or broken."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()

"""What is lost when pictures are read, with figures: depth of 16-bit grey, and parts cut away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from distill_core.data.resize import SIXTEEN_BIT, lost_by_cropping

if TYPE_CHECKING:
    from PIL.Image import Image

HALF = 0.5  # of a picture's area
LONGEST = 80  # characters of a name in a sentence


@dataclass
class PictureNotes:
    """Counts while pictures are read, and says it in sentences.

    Attributes:
        dark_below: 16-bit pictures of which none reaches this value are spoken of; as a rule half
            of the range, since values of 12 or 14 bits leave few of 256 grey levels.
    """

    dark_below: int = 32768
    _deep: int = 0
    _whitest: int = 0
    _cut: int = 0
    _most: tuple[float, str] = (0.0, "")
    _floats: list[str] = field(default_factory=list)

    def see(self, image: Image) -> None:
        """Count a picture of any mode, as it was opened, before it is converted."""
        if image.mode in SIXTEEN_BIT:
            self._deep += 1
            self._whitest = max(self._whitest, int(np.asarray(image).max()))

    def see_floats(self, high: float, what: str) -> None:
        """Look at the largest value of floating-point images from 0 to 1; `what` names them."""
        if 0 < high < self.dark_below / 65536:
            self._floats.append(
                f"the {what} are floating point with values up to {high:.3g} of 1, which become "
                f"{round(255 * high) + 1} of 256 grey levels; if {high:.3g} is near white, divide "
                "by it before."
            )

    def crop(self, size: tuple[int, int], hw: tuple[int, int], name: str) -> None:
        """Count a picture of height and width `size` that is fitted to `hw`."""
        lost = lost_by_cropping(size, hw)
        if lost > HALF:
            self._cut += 1
            self._most = max(self._most, (lost, name))

    def as_dict(self) -> dict[str, Any]:
        """Return what was counted, as JSON values."""
        return {
            "deep": self._deep,
            "whitest": self._whitest,
            "cut": self._cut,
            "most": list(self._most),
            "floats": self._floats,
        }

    def take_over(self, counted: Mapping[str, Any]) -> None:
        """Go on from what `as_dict` returned."""
        lost, name = counted["most"]
        self._deep, self._whitest = int(counted["deep"]), int(counted["whitest"])
        self._cut, self._most = int(counted["cut"]), (float(lost), str(name))
        self._floats = [str(line) for line in counted["floats"]]

    def lines(self) -> tuple[str, ...]:
        """Return a sentence for each kind of loss; none where nothing is lost."""
        return (*self._depth(), *self._floats, *self._cropped())

    def _depth(self) -> tuple[str, ...]:
        if not 0 < self._whitest < self.dark_below:
            return ()
        levels = (self._whitest * 255 + 32767) // 65535 + 1
        return (
            f"{_counted(self._deep)} of 16 bits grey with values up to {self._whitest} of 65535, "
            f"which become {levels} of 256 grey levels; if {self._whitest} is near white, multiply "
            f"the values by {65535 // self._whitest} before.",
        )

    def _cropped(self) -> tuple[str, ...]:
        if not self._cut:
            return ()
        lost, name = self._most
        return (
            f"{_counted(self._cut)} of which more than half is cut away, since only the centre is "
            f"kept: {100 * lost:.0f} % of {shown(name)}; cut or pad them to about a square before.",
        )


def shown(name: str) -> str:
    """Return a file's name for a sentence: a terminal and a page can show it, and it is short."""
    plain = "".join(sign if sign.isprintable() else "?" for sign in name)
    return plain if len(plain) <= LONGEST else f"...{plain[-LONGEST:]}"


def _counted(number: int) -> str:
    return f"{number:,} picture{'s' if number > 1 else ''}"

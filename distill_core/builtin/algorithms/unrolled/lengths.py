"""The defaults of `ratbptt`, lengths of its loops, and what does not fit; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from distill_core.plugin import OptionError

CurriculumName = Literal["random", "fixed", "staged", "window", "none", "adaptive"]
# Of both papers on CIFAR-10; and, for images below 28 pixels, what was measured on digits.
PUBLISHED: dict[str, Any] = {
    "window": 60,
    "total": 200,
    "inner_lr": 1e-3,
    "real_batch": 5000,
    "pixel_lr": 1e-3,
}
SMALL: dict[str, Any] = {
    "window": 30,
    "total": 50,
    "inner_lr": 3e-3,
    "real_batch": 256,
    "pixel_lr": 3e-2,
}
SMALL_LABEL_DIVISOR = 3  # of pixel_lr; the papers use one rate for both


@dataclass(frozen=True)
class Resolved:
    """The options whose defaults depend on the size of the images, with their values."""

    window: int
    total: int
    inner_lr: float
    real_batch: int
    pixel_lr: float
    label_lr: float
    spread: int


def check_lengths(
    curriculum: CurriculumName,
    *,
    window: int,
    total: int,
    min_offset: int,
    spread: int,
    default: float,
) -> None:
    """Refuse lengths that do not fit each other; `default` is that of the window.

    Raises:
        OptionError: they do not.
    """
    if curriculum != "none" and window > total:
        raise OptionError(
            f"option algo.window = {window} is longer than algo.total = {total}.",
            expected="1 <= window <= total.",
            next=f"pass -o algo.window={default:g} (the default), or raise -o algo.total.",
        )
    if curriculum == "adaptive" and not spread < window <= total - spread:
        raise OptionError(
            f"option algo.spread = {spread} does not fit a window of {window} of {total} steps.",
            expected="spread < window <= total - spread.",
            next="lower -o algo.spread, or leave it out.",
        )
    if curriculum in {"random", "staged"} and min_offset > total - window:
        raise OptionError(
            f"option algo.min_offset = {min_offset} leaves no room for the window.",
            expected=f"0 <= min_offset <= total - window = {total - window}.",
            next="lower -o algo.min_offset, or raise -o algo.total.",
        )

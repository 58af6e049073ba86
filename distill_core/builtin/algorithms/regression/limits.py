"""What the algorithms that regress on the synthetic images refuse: mirrors and too many rows."""

from __future__ import annotations

from distill_core.plugin import InputError, OptionError, Task


def may_flip(task: Task, *, asked: bool | None) -> bool:
    """Say whether mirrored images of this dataset keep their class.

    Raises:
        OptionError: they do not, and `algo.flip` asks for them.
    """
    allowed = "flip" in task.real.spec.augmentations
    if asked and not allowed:
        raise OptionError(
            f"option algo.flip = true, but mirrored images of '{task.real.spec.name}' do not "
            "keep their class.",
            expected="algo.flip = false with this dataset.",
            next="leave -o algo.flip out.",
        )
    return allowed


def check_rows(algorithm: str, items: int, *, flips: bool, most: int) -> None:
    """Refuse a regression on too many training images.

    Args:
        algorithm: its name, for the message.
        items: training images.
        flips: each comes with a mirrored copy.
        most: `algo.max_items`.

    Raises:
        InputError: there are more rows than `most`.
    """
    rows = items * (2 if flips else 1)
    if rows > most:
        copies = ", mirrored copies included," if flips else ""
        fewer = "pass -o algo.flip=false, " if flips else ""
        raise InputError(
            f"{algorithm} would fit a regression on {rows} training images{copies} in every step.",
            expected=f"at most algo.max_items = {most}.",
            next=f"{fewer}choose fewer of them (--ipc; a poster: -o repr.patches=ROWSxCOLS), "
            f"or pass -o algo.max_items={rows}.",
        )

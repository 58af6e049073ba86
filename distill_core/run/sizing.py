"""How large a representation may be: the budget in pixels, or the largest one within some bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import floor, prod

from distill_core.artefact.count_storage import storage_of
from distill_core.artefact.storage import FLOAT, Storage
from distill_core.contracts.components import Representation
from distill_core.contracts.data import DataSpec
from distill_core.contracts.whitening import Whitening
from distill_core.run.plan import Plan
from distill_core.system.units import counted
from registry import InputError

TRIES = 23  # sizes between two bounds that are tried, each without data
DOUBLINGS = 5  # of the first size: a number takes 4 bytes, or 16 times less in a stored type
GROWTH, GROWTHS = 1.25, 60  # of what would fit, after a refusal
FILLED = 0.95  # of the budget; where less is filled, sizes nearby are tried too
NEARBY = tuple(1.25 ** (k / 20) for k in range(-20, 21) if k)  # their ratios to the one found

Measure = Callable[[float], int]
Size = tuple[float, int]  # a budget in images per class, and its bytes


def sized(plan: Plan, spec: DataSpec) -> Representation:
    """Make the representation of a plan, as large as its budget allows.

    Raises:
        InputError: the budget is too small; the message says what would fit.
    """
    return plan.representation(spec, ipc_of(plan, spec))


def ipc_of(plan: Plan, spec: DataSpec) -> float | None:
    """Return the budget of a plan in images per class, found for one in bytes; None: no budget.

    Raises:
        InputError: the budget is too small; the message says what would fit.
    """
    limit = plan.config.budget_bytes
    if limit is None:
        return plan.config.ipc
    if spec not in plan.sizes:
        image = FLOAT * spec.num_classes * prod(spec.image_shape)
        plan.sizes[spec] = largest_ipc(limit, lambda ipc: _bytes(plan, spec, ipc), image)
    return plan.sizes[spec]


def check_bytes(storage: Storage, limit: int | None) -> None:
    """Refuse a synthetic dataset that takes more bytes than the user allowed.

    Raises:
        InputError: it does.
    """
    if limit is not None and storage.bytes > limit:
        raise _too_small(limit, storage.bytes)


def largest_ipc(limit: int, measure: Measure, image: int) -> float:
    """Return a budget in images per class whose result takes at most `limit` bytes, nearly all.

    Args:
        limit: bytes.
        measure: returns the bytes at a budget; raises `InputError` where it buys nothing.
        image: bytes of one image per class in float32, at which the search begins.

    Returns:
        A budget that fits, near the largest; the number of images where only whole ones are taken.

    Raises:
        InputError: none fits; the message says what would, or is that of `measure` if nothing does.

    >>> largest_ipc(1000, lambda ipc: 100 + int(300 * ipc), 300) > 2.99
    True

    Numbers in fewer bits buy more:

    >>> largest_ipc(1000, lambda ipc: int(30 * ipc), 300) > 33.2
    True
    """
    measure = cache(measure)  # sizes that are rounded to whole images come up again
    lower, upper = 0.0, limit / image
    best: Size | None = None
    for _ in range(DOUBLINGS + 1):
        found = _at(measure, upper)
        if found is not None and found[1] > limit:
            break
        lower, best, upper = upper, _fullest(found, best), 2 * upper
    else:
        upper = lower  # all that were tried fit, or buy nothing
    for _ in range(TRIES):
        if lower >= upper:
            break
        tried = (lower + upper) / 2
        found = _at(measure, tried)
        if found is None or found[1] <= limit:
            best = _fullest(found, best)
            lower = tried
        else:
            upper = tried
    if best is not None and best[1] < FILLED * limit:
        # A poster of whole blocks may take fewer bytes where its budget grows: halving, which
        # takes them to rise, ends at any of the places where they pass the limit.
        nearby = (_at(measure, best[0] * ratio) for ratio in NEARBY)
        best = _fullest(best, *(each for each in nearby if each and each[1] <= limit))
    if best is not None:
        return best[0]
    ipc, least = _least(measure, limit / image)
    if least <= limit:
        return ipc
    larger = _at(measure, 2**DOUBLINGS * limit / image)
    raise _too_small(limit, least, fixed=larger is not None and larger[1] == least)


def _fullest(*sizes: Size | None) -> Size | None:
    """Return the size of most bytes, the first of several; None: none is there."""
    return max(filter(None, sizes), key=lambda each: each[1], default=None)


def _at(measure: Measure, ipc: float) -> Size | None:
    """Return a budget and its bytes; the whole number below where only those are taken."""
    for each in dict.fromkeys((ipc, float(floor(ipc)))):
        if each > 0:
            try:
                return each, measure(each)
            except InputError:
                continue
    return None


def _bytes(plan: Plan, spec: DataSpec, ipc: float) -> int:
    synthetic = plan.synthetic(spec, plan.representation(spec, ipc))
    return storage_of(synthetic, Whitening("none")).bytes


def _least(measure: Measure, ipc: float) -> Size:
    """Return about the smallest budget that buys anything, from a tenth of this on; and its bytes.

    Raises:
        InputError: that of `measure` at this one, since no budget does: something else is wrong.
    """
    for k in range(-10, GROWTHS):
        if (found := _at(measure, ipc * GROWTH**k)) is not None:
            return found
    return ipc, measure(ipc)


def _too_small(limit: int, least: int, *, fixed: bool = False) -> InputError:
    """Say what would fit; `fixed`: the size does not follow a budget, since an option says it."""
    return InputError(
        f"representation and labels do not fit in {counted(limit, 'byte')}; about {least:,} bytes "
        "would fit.",
        expected="at most the bytes of --budget-bytes, labels, masks and decoders counted.",
        next=f"raise --budget-bytes to {least}, or "
        + (
            "unset the option of --repr that fixes its size, as a preset may do."
            if fixed
            else "choose a smaller --repr or --labeler."
        ),
    )

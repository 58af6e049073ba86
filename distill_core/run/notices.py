"""Notices: what the metrics and the verdict of a run show to be wrong, with what to try.

Nothing here changes a run. The bounds are wide, so that a sound run says nothing: the loss counts
as risen when a fifth of what it had fallen is lost again, a gradient as a spike at 50 times the
median of those before it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from distill_core.evaluation.evaluate import Result

APPLIED = "applied_"  # metrics: norm of a group's gradient as the outer optimizer got it, clipped
LOST = 0.2  # of the fall of the loss
SPIKE = 50.0  # times the median of the norms before
BEFORE = 50  # outer steps that this median is taken over
BLOCKS = 20  # parts of a run whose mean losses are compared
CEILING = 0.99  # accuracy of real images above which nothing can be much better
SHORTEST = 5  # outer steps of a part: a mean of fewer says nothing
NO_BOUNDS: Mapping[str, Sequence[str]] = {}


class Notice(NamedTuple):
    """Something to look at: what was seen, and what to try."""

    what: str
    next: str

    def __str__(self) -> str:
        return f"{self.what} Try: {self.next}"


def notices(
    metrics: Iterable[Mapping[str, Any]],
    results: Mapping[str, Result],
    *,
    learned: bool,
    bounds: Mapping[str, Sequence[str]] = NO_BOUNDS,
) -> list[Notice]:
    """Return what is odd about a finished run.

    Args:
        metrics: the lines of metrics.jsonl, in the order of their steps.
        results: accuracies by training set, as `judge` returns them; controls may be missing.
        learned: whether anything was trained. A selection of real images that is no better than
            a random one is a finding, not a fault.
        bounds: what to pass to the algorithm to bound spikes of a group; empty: nothing does.
    """
    steps = [
        {name: line[name] for name in line if name in ("step", "loss") or name.startswith(APPLIED)}
        for line in metrics
        if line.get("kind") == "step"
    ]
    found = [loss_rose([line["loss"] for line in steps if "loss" in line]), *spikes(steps, bounds)]
    if learned:
        found.append(not_better(results))
    return [notice for notice in found if notice]


def loss_rose(losses: Sequence[float]) -> Notice | None:
    """Compare the mean loss of the last part of a run with that of its lowest part.

    The rise counts if it is a fifth of the fall from the first part to the lowest one, and more
    than three standard errors: a loss through random windows is noisy.
    """
    size = max(len(losses) // BLOCKS, SHORTEST)
    count = len(losses) // size
    if count < 3:  # a first part, a lowest one and a last one
        return None
    begin = len(losses) - count * size
    parts = [losses[at : at + size] for at in range(begin, len(losses), size)]
    means = [statistics.fmean(part) for part in parts]
    least = min(range(count), key=means.__getitem__)
    rise, fall = means[-1] - means[least], means[0] - means[least]
    noise = math.sqrt(sum(statistics.variance(parts[at]) for at in (least, -1)) / size)
    if rise <= max(LOST * fall, 3 * noise):
        return None
    until = begin + (least + 1) * size
    return Notice(
        f"the outer loss ended well above its low: {means[-1]:.3g} in the last {size} outer steps, "
        f"{means[least]:.3g} in those to step {until}.",
        f"--steps {until}; -o evaluate.every={size} -o evaluate.select=best, which keeps "
        "the best state by the validation split; smaller learning rates; or "
        "-o run.lr_decay=cosine.",
    )


def spikes(
    steps: Sequence[Mapping[str, Any]], bounds: Mapping[str, Sequence[str]] = NO_BOUNDS
) -> Iterator[Notice]:
    """Find gradients that were far larger than those before them when the optimizer got them."""
    names = dict.fromkeys(name for line in steps for name in line if name.startswith(APPLIED))
    for name in names:
        norms = [(line.get("step", 0), line[name]) for line in steps if name in line]
        found = list(_spikes(norms))
        if found:
            ratio, step = max(found)
            group = name.removeprefix(APPLIED)
            ways = bounds.get(group, ())
            yield Notice(
                f"the gradient of group '{group}' spiked {_times(len(found))}; the largest, in "
                f"outer step {step}, was {ratio:.0f} times as long as usual.",
                f"{' '.join(ways)}{', or ' if ways else ''}a smaller learning rate.",
            )


def _spikes(norms: Sequence[tuple[int, float]]) -> Iterator[tuple[float, int]]:
    """Yield how many times the median of the norms before it a spike was, and its step."""
    for at in range(BEFORE, len(norms)):
        usual = statistics.median(norm for _, norm in norms[at - BEFORE : at])
        step, norm = norms[at]
        if usual > 0 and norm > SPIKE * usual:
            yield norm / usual, step


def not_better(results: Mapping[str, Result]) -> Notice | None:
    """Compare the distilled data with random real images of the same pixels, or as many bytes.

    They count as better if the means differ by more than two standard errors; for single networks,
    whose spread is not known, if their accuracies differ.
    """
    distilled = results.get("distilled")
    for name, size in (("random", "of their budget"), ("random_bytes", "of as many bytes")):
        random = results.get(name)
        if distilled is None or random is None or _is_better(distilled, random):
            continue
        return Notice(
            f"the distilled data are not better than random real images {size}: {distilled} "
            f"and {random}.",
            "more outer steps, smaller learning rates, a preset (`distill presets`), or the images "
            "themselves.",
        )
    return None


def _is_better(distilled: Result, random: Result) -> bool:
    error = math.hypot(*(_standard_error(each) for each in (distilled, random)))
    return distilled.mean - random.mean > 2 * error or random.mean > CEILING


def _standard_error(result: Result) -> float:
    return (result.std or 0.0) / math.sqrt(len(result.accuracies))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"

"""The ablation of class orders: is a lower score of an order a higher accuracy?"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from paper_book import Record, mean, records_of
from paper_cells import CORRELATION, Cell
from scipy.stats import pearsonr

from distill_core.plugin import cosine_distances, ordering_score


def correlation(
    cells: Sequence[Cell], records: Sequence[Record], scale: str, file: str | None
) -> Iterator[str]:
    """Yield Markdown: scores of class orders by embeddings of the names, test accuracies, and how
    the two correlate.

    Raises:
        SystemExit: the file lacks a class.
    """
    if file is None or not Path(file).exists():
        yield "Correlation: pass --embeddings cifar10=FILE.npz for the scores of the orders."
        return
    stored = np.load(file, allow_pickle=False)
    names = [str(name) for name in stored["names"]]
    distances = cosine_distances(torch.from_numpy(stored["embeddings"].astype(np.float64)))
    scores, accuracies = [], []
    yield "| order | its score | accuracy |"
    yield "|---|---|---|"
    for cell in cells:
        found = records_of(cell, records, scale)
        if found:
            order = found[0]["order"]
            if missing := {name for row in order for name in row} - set(names):
                raise SystemExit(f"{file} has no {', '.join(sorted(missing))}, which are classes.")
            grid = [[names.index(name) for name in row] for row in order]
            scores.append(ordering_score(torch.tensor(grid), distances))
            accuracies.append(statistics.fmean(map(mean, found)))
            yield f"| {cell.name} | {scores[-1]:.3f} | {accuracies[-1]:.1f} |"
    yield ""
    if len(scores) < 4:
        yield f"Correlation: {len(scores)} orders are too few (paper: {CORRELATION}, 5 orders)."
        return
    found_r = pearsonr(scores, accuracies)
    low, high = found_r.confidence_interval(0.95)
    yield (
        f"Correlation of {len(scores)} orders: {found_r.statistic:.2f}, 95 % interval {low:.2f} to "
        f"{high:.2f} (paper: {CORRELATION}, 5 orders)."
    )

"""Runs that name one dataset but have used other images of it, as after a folder was changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from distill_core.system.units import shortened

SHOWN = 3  # runs that a line names of each kind


def other_data(runs: Iterable[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
    """Return a line for each dataset whose images are not the same in all runs.

    Args:
        runs: name, dataset and manifest of each. Manifests of earlier versions do not say which
            images there were; these runs are passed over.

    >>> one, other = {"dataset_content": "1"}, {"dataset_content": "2"}
    >>> other_data([("a", "mine", one), ("b", "mine", other)])
    ["dataset 'mine' has other images in some runs: a | b; their accuracies cannot be compared"]
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name, dataset, manifest in runs:
        content = manifest.get("dataset_content")
        if isinstance(content, str) and content:
            found.setdefault(dataset, {}).setdefault(content, []).append(name)
    return [
        f"dataset '{dataset}' has other images in some runs: "
        f"{' | '.join(shortened(names, SHOWN) for names in kinds.values())}; "
        "their accuracies cannot be compared"
        for dataset, kinds in found.items()
        if len(kinds) > 1
    ]

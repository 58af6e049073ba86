"""Whether what an artefact holds can be trained on: its file may come from a stranger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from registry import InputError

ON_SIMPLEX = 1e-4  # how far a float32 row of labels may be from summing to one


def check_contents(file: Path, images: Tensor, labels: Tensor, metadata: Mapping[str, Any]) -> None:
    """Refuse images and labels that no network can be trained on.

    Args:
        file: where they were read.
        images: should be (n, C, h, w), finite.
        labels: should be (n, K), finite; on the simplex unless "simplex" is false.
        metadata: has "image_shape", "class_names" and perhaps "simplex".

    Raises:
        InputError: saying what is wrong with them.
    """
    shape, names = tuple(metadata["image_shape"]), metadata["class_names"]
    if not all(isinstance(name, str) for name in names) or not isinstance(names, list):
        _refuse(file, "its class names are no list of text", "a name for every class")
    if images.dim() != 4 or tuple(images.shape[1:]) != shape or not len(images):
        _refuse(
            file,
            f"its images have shape {tuple(images.shape)}",
            f"(n, {', '.join(map(str, shape))}), as its metadata says",
        )
    if labels.shape != (len(images), len(names)):
        _refuse(
            file,
            f"its labels have shape {tuple(labels.shape)}",
            f"({len(images)}, {len(names)}): a row for each image, a column for each class name",
        )
    for what, tensor in (("images", images), ("labels", labels)):
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            _refuse(file, f"its {what} are not all finite numbers", "finite floating-point numbers")
    row = None if not metadata.get("simplex", True) else off_simplex(labels)
    if row is not None:
        _refuse(
            file,
            f"row {row} of its labels is no distribution over the classes",
            "numbers >= 0 that sum to 1, as the recipe's cross-entropy needs them",
        )


def off_simplex(labels: Tensor) -> int | None:
    """Return the first row of labels (n, K) that is no distribution; None if all are."""
    sums = (labels.double().sum(1) - 1).abs() > ON_SIMPLEX
    found = (sums | (labels < -ON_SIMPLEX).any(1)).nonzero()
    return int(found[0]) if len(found) else None


def _refuse(file: Path, what: str, expected: str) -> None:
    raise InputError(
        f"{file} cannot be used: {what}.",
        expected=f"{expected}.",
        next="restore it from a copy, or ask who made it; `distill verify` checks a whole run.",
    )

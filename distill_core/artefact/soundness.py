"""What is refused of a file that is read: it may come from a stranger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from distill_core.contracts.data import can_be_shown
from distill_core.contracts.synthetic import Budget
from distill_core.data.resize import Fit
from registry import InputError

AT_ONCE = 256  # images that are looked at at once: it takes as much memory again
ON_SIMPLEX = 1e-4  # how far a float32 row of labels may be from summing to one
# Bytes of images that a file may make by its index tables: so many, and more for each of its own.
# Posters of large images cut a pixel out a hundred times; a crafted file, a million times.
LEAST_GATHERED, GATHERED = 2**28, 1024


def check_gathered(file: Path, size: int) -> None:
    """Refuse to make more of a file than it can hold: tables may name a pixel again and again.

    Args:
        file: where they were read.
        size: bytes that are to be made.

    Raises:
        InputError: these are too many for a file of its size.
    """
    most = LEAST_GATHERED + GATHERED * file.stat().st_size
    if size > most:
        refuse(
            file,
            f"{size / 1e6:,.0f} MB of images would be made of {file.stat().st_size / 1e6:,.1f} MB",
            f"at most {most / 1e6:,.0f} MB",
        )


def fit_of(file: Path, metadata: Mapping[str, Any]) -> Fit:
    """How pictures were brought to the size of the images."""
    fit: Fit = metadata.get("fit", "crop")
    if fit not in get_args(Fit):
        refuse(file, f"its pictures were fitted by {fit!r}", "crop or squash")
    return fit


def check_names(file: Path, names: Any) -> None:
    """Refuse class names that are no list of text, or that cannot be printed.

    Raises:
        InputError: the message says what is wrong.
    """
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        refuse(file, "its class names are not a list of text", "a name for every class")
    if not all(map(can_be_shown, names)):
        refuse(file, "a class name has characters that cannot be shown", "names to print")


def check_contents(file: Path, images: Tensor, labels: Tensor, metadata: Mapping[str, Any]) -> None:
    """Refuse images and labels that cannot be trained on: a file may come from a stranger.

    Args:
        file: where they were read.
        images: should be (n, C, h, w), finite.
        labels: should be (n, K), finite; on the simplex unless "simplex" is false.
        metadata: has "image_shape", "class_names", which `check_names` has let pass, and perhaps
            "simplex".

    Raises:
        InputError: the message says what is wrong.
    """
    check_components(file, metadata)
    shape, names = tuple(metadata["image_shape"]), metadata["class_names"]
    if images.dim() != 4 or tuple(images.shape[1:]) != shape or not len(images):
        refuse(
            file,
            f"its images have shape {tuple(images.shape)}",
            f"(n, {', '.join(map(str, shape))}), as its metadata says",
        )
    if labels.shape != (len(images), len(names)):
        refuse(
            file,
            f"its labels have shape {tuple(labels.shape)}",
            f"({len(images)}, {len(names)}): a row for each image, a column for each class name",
        )
    for what, tensor in (("images", images), ("labels", labels)):
        finite = (bool(part.isfinite().all()) for part in torch.split(tensor, AT_ONCE))
        if not tensor.is_floating_point() or not all(finite):
            refuse(file, f"its {what} are not all finite numbers", "finite floating-point numbers")
    row = None if not metadata.get("simplex", True) else off_simplex(labels)
    if row is not None:
        refuse(
            file,
            f"row {row} of its labels is not a distribution over the classes",
            "numbers >= 0 that sum to 1, as the recipe's cross-entropy needs them",
        )


def check_components(file: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse what is no table of components with a name each; their names are printed.

    Args:
        file: where they were read.
        metadata: has "components", or none.

    Raises:
        InputError: it is none.
    """
    components = metadata.get("components", {})
    sound = isinstance(components, dict) and all(
        isinstance(each, dict) and isinstance(name := each.get("name"), str) and name.isprintable()
        for each in components.values()
    )
    if not sound or not all(map(str.isprintable, components)):
        refuse(file, "its components have no names to print", "a table of them, each with a name")


def off_simplex(labels: Tensor) -> int | None:
    """Return the first row of labels (n, K) that is not a distribution; None if all are."""
    sums = (labels.double().sum(1) - 1).abs() > ON_SIMPLEX
    found = (sums | (labels < -ON_SIMPLEX).any(1)).nonzero()
    return int(found[0]) if len(found) else None


def refuse(file: Path, what: str, expected: str) -> None:
    """Refuse a file.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"{file} cannot be used: {what}.",
        expected=f"{expected}.",
        next="restore it from a copy, or ask who made it; `distill verify` checks a whole run.",
    )


def budget_of(file: Path, stored: Mapping[str, Any]) -> Budget:
    """Return the budget that a file states; refuse what can be none."""
    for name, value in stored.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e300:
            refuse(file, f"its budget has {name} = {value!r:.50}", "numbers that are not negative")
    return Budget(**stored)

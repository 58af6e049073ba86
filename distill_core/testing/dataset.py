"""The contract of datasets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from distill_core.contracts.components import Dataset
from distill_core.contracts.data import DataSpec, RawData
from distill_core.data.placeholder import outlined
from distill_core.data.prepare import check_raw
from distill_core.testing.assertions import demand, repeatable
from registry import InputError


def check_dataset(make: Callable[..., Dataset], *, name: str = "unnamed") -> None:
    """Check a dataset: it loads, twice the same, what it loads holds together, and is as outlined.

    Args:
        make: called as `make()`.
        name: for the sentences of the AssertionErrors.

    Raises:
        InputError: its files are not there.
    """
    who = f"dataset '{name}'"
    demand(isinstance(make(), Dataset), who, "has no method `load`")

    def load() -> tuple[Any, ...]:
        raw = make().load()
        demand(isinstance(raw, RawData), who, f"loads a {type(raw).__name__}, not RawData")
        return (
            raw.train_images,
            raw.train_labels,
            raw.test_images,
            raw.test_labels,
            (raw.spec.name, raw.spec.class_names, raw.spec.image_shape, raw.spec.augmentations),
        )

    repeatable(who, "load", load)
    raw = make().load()
    try:
        check_raw(raw)
    except InputError as fault:
        raise AssertionError(f"{who} loads data that do not hold together: {fault}") from None
    for labels in (raw.train_labels, raw.test_labels):
        demand(labels.dtype == torch.int64, who, f"has labels of {labels.dtype}, not torch.int64")
    for tensor in (raw.train_images, raw.test_images):
        demand(tensor.device.type == "cpu", who, "loads images to another device than the CPU")
    _check_outline(who, make(), raw.spec)
    names = raw.spec.class_names
    demand(isinstance(names, tuple), who, "has class names that are not a tuple")


def _check_outline(who: str, dataset: Dataset, spec: DataSpec) -> None:
    """What was known before is what is loaded, except for the names of the classes."""
    outline = getattr(dataset, "outline", None)
    if outline is None:
        return
    known, loaded = outlined(outline()), outlined(spec)
    demand(known == loaded, who, f"outlines {known} but loads {loaded}")

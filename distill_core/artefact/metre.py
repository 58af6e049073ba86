"""Counting what a result stores: of a synthetic dataset, or of the tensors of an artefact."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from torch import Tensor

from distill_core.artefact.packing import PREFIXES, state_of
from distill_core.artefact.storage import Storage, Stored
from distill_core.artefact.stored import StoredAs
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.contracts.whitening import Whitening


def storage_of(synthetic: SyntheticDataset, whitening: Whitening) -> Storage:
    """Measure a synthetic dataset."""
    representation = synthetic.representation
    return Storage.count(
        stored_as(representation)
        if isinstance(representation, StoredAs)
        else stored_of(representation.state_dict()),
        stored_of(synthetic.labeler.state_dict()),
        image_shape=synthetic.spec.image_shape,
        num_classes=synthetic.spec.num_classes,
        whitening_bytes=size(whitening.tensors()),
    )


def stored_as(representation: StoredAs) -> Stored:
    """Count what a representation stores in a type of its own; every scale is two numbers."""
    return _packed(representation.packed(), representation.shapes())


def _packed(packed: Mapping[str, Tensor], shapes: Mapping[str, Any]) -> Stored:
    numbers = sum(
        prod(shapes[name]) if name in shapes else tensor.numel() for name, tensor in packed.items()
    )
    return Stored(numbers, size(packed))


def stated_storage(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], whitening: Mapping[str, Tensor]
) -> Storage:
    """Return the storage that an artefact states; of an earlier version, count it."""
    return Storage.read(metadata.get("storage")) or counted_storage(tensors, metadata, whitening)


def counted_storage(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], whitening: Mapping[str, Tensor]
) -> Storage:
    """Measure the states in an artefact, whatever it states."""
    state = state_of(tensors, metadata["same"])
    parts = (
        {name: tensor for name, tensor in state.items() if name.startswith(f"{part}.")}
        for part in PREFIXES
    )
    data, labels = map(stored_of, parts)
    return Storage.count(
        data,
        labels,
        image_shape=tuple(metadata["image_shape"]),
        num_classes=len(metadata["class_names"]),
        whitening_bytes=size(whitening),
    )


def packed_storage(
    packed: Mapping[str, Tensor],
    shapes: Mapping[str, Any],
    metadata: Mapping[str, Any],
    whitening: Mapping[str, Tensor],
) -> Storage:
    """Measure the tensors of stored.safetensors.

    Args:
        packed: the tensors, as they are.
        shapes: of those that are stored in the type.
        metadata: of distilled.safetensors.
        whitening: is measured apart.
    """
    parts = {
        part: {
            name.removeprefix(f"{prefix}."): tensor
            for name, tensor in packed.items()
            if name.startswith(f"{prefix}.")
        }
        for part, prefix in PREFIXES.items()
    }
    return Storage.count(
        _packed(parts["representation"], shapes),
        stored_of(parts["labeler"]),
        image_shape=tuple(metadata["image_shape"]),
        num_classes=len(metadata["class_names"]),
        whitening_bytes=size(whitening),
    )


def stored_of(state: Mapping[str, Tensor]) -> Stored:
    """Count tensors that are stored as they are."""
    return Stored(sum(tensor.numel() for tensor in state.values()), size(state))


def size(tensors: Mapping[str, Tensor]) -> int:
    """Return how many bytes the elements of tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

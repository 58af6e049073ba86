"""Counting what a result stores: of a synthetic dataset, or of the tensors of an artefact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from distill_core.artefact.packing import PREFIXES, state_of
from distill_core.artefact.soundness import refuse
from distill_core.artefact.storage import Storage, Stored
from distill_core.artefact.stored_numbers import StoredNumbers
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.contracts.whitening import Whitening
from distill_core.system.units import counted


def storage_of(synthetic: SyntheticDataset, whitening: Whitening) -> Storage:
    """Measure a synthetic dataset."""
    return Storage.count(
        _stored_part(synthetic.representation),
        _stored_part(synthetic.labeler),
        image_shape=synthetic.spec.image_shape,
        num_classes=synthetic.spec.num_classes,
        whitening_bytes=size(whitening.tensors()),
    )


def _stored_part(part: nn.Module) -> Stored:
    """Count what a component stores; every scale of a stored type is two numbers."""
    if isinstance(part, StoredNumbers):
        return _packed(part.packed(), part.shapes())
    return stored_of(part.state_dict())


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
    return _together(data, labels, metadata, whitening)


def packed_storage(
    packed: Mapping[str, Tensor],
    shapes: Mapping[str, Any],
    metadata: Mapping[str, Any],
    whitening: Mapping[str, Tensor],
) -> Storage:
    """Measure the tensors of stored.safetensors.

    Args:
        packed: the tensors, as they are.
        shapes: of those that are stored in fewer bits.
        metadata: of the result.
        whitening: is measured apart.
    """
    parts = (
        {name: tensor for name, tensor in packed.items() if name.startswith(f"{prefix}.")}
        for prefix in PREFIXES.values()
    )
    data, labels = (_packed(part, shapes) for part in parts)
    return _together(data, labels, metadata, whitening)


def _together(
    data: Stored, labels: Stored, metadata: Mapping[str, Any], whitening: Mapping[str, Tensor]
) -> Storage:
    return Storage.count(
        data,
        labels,
        image_shape=tuple(metadata["image_shape"]),
        num_classes=len(metadata["class_names"]),
        whitening_bytes=size(whitening),
    )


def stored_storage(
    file: Path,
    packed: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    whitening: Mapping[str, Tensor],
) -> Storage:
    """Return the storage of a stored.safetensors, counted; it must be what the file states.

    Args:
        file: where it was read.
        packed: the tensors, as they are.
        metadata: of it.
        whitening: is counted where nothing is stated: of one that is shared, a compact form is.

    Raises:
        InputError: the file states another size, or has tensors that are none of its numbers.
    """
    found = packed_storage(packed, metadata["shapes"], metadata, whitening)
    stated = Storage.read(metadata.get("storage")) or found
    if replace(found, whitening_bytes=stated.whitening_bytes) != stated:
        refuse(
            file,
            f"it has {found.numbers:,} numbers in {found.bytes:,} bytes, and says {stated}",
            "numbers and bytes as it says",
        )
    if beside := size(packed) - found.bytes:
        refuse(
            file,
            f"{counted(beside, 'byte')} of its tensors are none of its numbers",
            f"tensors {' and '.join(f'{prefix}.NAME' for prefix in PREFIXES.values())} alone",
        )
    return stated


def stored_of(state: Mapping[str, Tensor]) -> Stored:
    """Count tensors that are stored as they are."""
    return Stored(sum(tensor.numel() for tensor in state.values()), size(state))


def size(tensors: Mapping[str, Tensor]) -> int:
    """Return how many bytes the elements of tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

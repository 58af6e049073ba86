"""The metre: what a result takes to store, the same for every representation.

Papers count fp32 numbers, bf16 numbers or entropy-coded bits, with labels or without; here all of
it is counted, in bytes. Where items and classes lie follows from the settings and is not counted.
Whitening is a property of the real data: it is given apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite, prod
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # commands that only read a record import no torch
    from torch import Tensor

    from distill_core.contracts.synthetic import SyntheticDataset
    from distill_core.contracts.whitening import Whitening

FLOAT = 4  # bytes of a float32 number


class Stored(NamedTuple):
    """What is stored of a representation or a labeler: numbers, and the bytes that they take."""

    numbers: int
    bytes: int

    @staticmethod
    def of(state: Mapping[str, Tensor]) -> Stored:
        """Count tensors that are stored as they are."""
        return Stored(sum(tensor.numel() for tensor in state.values()), size(state))


@dataclass(frozen=True)
class Storage:
    """What must be stored to train on a result.

    Attributes:
        numbers: stored numbers: parameters, masks, decoders and labels.
        bytes: these in the types in which they are stored.
        label_bytes: those of them that are labels.
        bits_per_class: eight times `bytes`, divided by the number of classes.
        ipc_pixels: numbers of the representation, in units of those of one image per class.
        ipc_bytes: `bytes`, in units of one float32 image per class.
        whitening_bytes: of the whitening, which is not among `bytes`.
    """

    numbers: int
    bytes: int
    label_bytes: int
    bits_per_class: float
    ipc_pixels: float
    ipc_bytes: float
    whitening_bytes: int

    @staticmethod
    def count(
        data: Stored,
        labels: Stored,
        *,
        image_shape: tuple[int, ...],
        num_classes: int,
        whitening: Mapping[str, Tensor],
    ) -> Storage:
        """Count what is stored of a representation and of a labeler.

        Args:
            data: of the representation.
            labels: of the labeler.
            image_shape: C, h, w.
            num_classes: K.
            whitening: its tensors.
        """
        every, image = data.bytes + labels.bytes, num_classes * prod(image_shape)
        return Storage(
            numbers=data.numbers + labels.numbers,
            bytes=every,
            label_bytes=labels.bytes,
            bits_per_class=8 * every / num_classes,
            ipc_pixels=data.numbers / image,
            ipc_bytes=every / (FLOAT * image),
            whitening_bytes=size(whitening),
        )

    @staticmethod
    def read(found: Any) -> Storage | None:
        """Read what `as_dict` returned from a file; None if that has no such table.

        Raises:
            TypeError: it is no table, or has other fields.
            ValueError: a field is not a number that can be.
        """
        if found is None:
            return None
        read = Storage(**found)
        for name, value in found.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"storage has {name} = {value!r:.50}")
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"storage has {name} = {value}")
        return read

    def as_dict(self) -> dict[str, float]:
        """Return the fields as a plain dictionary."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.numbers:,} numbers in {self.bytes:,} bytes ({self.label_bytes:,} of labels): "
            f"{self.bits_per_class:,.0f} bits per class, {self.ipc_bytes:.3f} IPC by bytes "
            f"({self.ipc_pixels:.3f} by pixels); whitening apart: "
            f"{self.whitening_bytes:,} bytes"
        )


def storage_of(synthetic: SyntheticDataset, whitening: Whitening) -> Storage:
    """Measure a synthetic dataset."""
    return Storage.count(
        Stored.of(synthetic.representation.state_dict()),
        Stored.of(synthetic.labeler.state_dict()),
        image_shape=synthetic.spec.image_shape,
        num_classes=synthetic.spec.num_classes,
        whitening=whitening.tensors(),
    )


def stated_storage(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], whitening: Mapping[str, Tensor]
) -> Storage:
    """Return the storage that an artefact states; of an earlier version, count it."""
    return Storage.read(metadata.get("storage")) or counted_storage(tensors, metadata, whitening)


def counted_storage(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], whitening: Mapping[str, Tensor]
) -> Storage:
    """Measure the states in an artefact, whatever it states."""
    from distill_core.artefact.packing import PREFIXES, state_of

    state = state_of(tensors, metadata["same"])
    parts = (
        {name: tensor for name, tensor in state.items() if name.startswith(f"{part}.")}
        for part in PREFIXES
    )
    data, labels = map(Stored.of, parts)
    return Storage.count(
        data,
        labels,
        image_shape=tuple(metadata["image_shape"]),
        num_classes=len(metadata["class_names"]),
        whitening=whitening,
    )


def size(tensors: Mapping[str, Tensor]) -> int:
    """Return how many bytes the elements of tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

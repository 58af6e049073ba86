"""What a result takes to store, the same for every representation.

Papers count fp32 numbers, bf16 numbers or entropy-coded bits, with labels or without; here all of
it is counted, in bytes. Where items and classes lie follows from the settings and is not counted.
Whitening is a property of the real data: it is given apart. `count_storage.py` counts; here is
what it finds, without torch, for those who read it from a file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite, prod
from typing import Any, NamedTuple

FLOAT = 4  # bytes of a float32 number


class Stored(NamedTuple):
    """What is stored of a representation or a labeler: numbers, and the bytes that they take."""

    numbers: int
    bytes: int


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
        whitening_bytes: int,
    ) -> Storage:
        """Count what is stored of a representation and of a labeler.

        Args:
            data: of the representation.
            labels: of the labeler.
            image_shape: C, h, w.
            num_classes: K.
            whitening_bytes: of the whitening.
        """
        every, image = data.bytes + labels.bytes, num_classes * prod(image_shape)
        return Storage(
            numbers=data.numbers + labels.numbers,
            bytes=every,
            label_bytes=labels.bytes,
            bits_per_class=8 * every / num_classes,
            ipc_pixels=data.numbers / image,
            ipc_bytes=every / (FLOAT * image),
            whitening_bytes=whitening_bytes,
        )

    def is_pixels(self, numbers: int) -> bool:
        """Say whether what is stored, labels apart, are float32 pixels: as they come.

        Args:
            numbers: pixels of all canvases, times channels.
        """
        return self.bytes - self.label_bytes == FLOAT * numbers

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

"""The real images of one class, of which memory holds a part at a time where they are many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

MOST_NUMBERS = 2**26  # in memory at once; 256 MiB

Read = Callable[[Iterable[Tensor]], Iterator[Tensor]]


def class_parts(members: Tensor, numbers: int) -> tuple[Tensor, ...]:
    """Split the images of a class.

    Args:
        members: (n,) which images.
        numbers: of each, in memory.
    """
    return torch.split(members, max(1, MOST_NUMBERS // numbers))


class Rows:
    """A row of numbers for each image of a class, to be gone through any number of times.

    Rows of one part stay in memory. More are read anew each time, and differ by the rounding of
    sums from what they would be in one part.

    Args:
        members: (n,) which images.
        numbers: of a row.
        read: yields the rows (m, d) of the images in each of some tensors (m,).
    """

    def __init__(self, members: Tensor, numbers: int, read: Read) -> None:
        self._members, self._read = members, read
        self._parts = class_parts(members, numbers)
        self._whole = next(read(self._parts)) if len(self._parts) == 1 else None

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Tensor]:
        return iter([self._whole]) if self._whole is not None else self._read(self._parts)

    def __getitem__(self, row: int) -> Tensor:
        if self._whole is not None:
            return self._whole[row]
        return next(self._read([self._members[row : row + 1]]))[0]

    def mean(self) -> Tensor:
        """Return the mean row: (d,)."""
        total, mean = torch.zeros((), dtype=torch.float64), torch.zeros(())
        for part in self:
            mean = part.mean(0)
            total = total.to(mean.device) + len(part) * mean.double()
        return (total / len(self)).to(mean)

    def each(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return `function` of the rows (m, d) of every part, one number for each row: (n,)."""
        return torch.cat([function(part) for part in self])

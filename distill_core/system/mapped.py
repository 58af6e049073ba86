"""Files of numbers as tensors: mapped into memory, so that several processes share one copy.

Who reads here and there reads the file beside its map (`read_rows`): touching the map brings whole
folios of the page cache into the process, up to 2 MiB for each place on Linux 6.18.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from registry import EnvironmentFault

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RESIDENT = 2**26  # bytes of maps that are in the process before their pages leave it


class _File(NamedTuple):
    path: Path
    descriptor: int  # closed with the map
    address: int  # of the map's first byte


_MAPS: weakref.WeakKeyDictionary[mmap.mmap, _File] = weakref.WeakKeyDictionary()


def reserved(path: Path, size: int) -> None:
    """Make a file that has all its space on the disk: writing to its map cannot fail later.

    Raises:
        OSError: the disk is full, or the file cannot be made.
    """
    with open(path, "xb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
        for start in range(0, size, 2**24):  # macOS
            file.write(bytes(min(2**24, size - start)))


def mapped(
    path: Path, shape: tuple[int, ...], dtype: torch.dtype, *, writing: bool = False
) -> Tensor:
    """Map a file into memory as a tensor.

    Args:
        path: a file with as many bytes as the tensor.
        shape: of the tensor.
        dtype: of the tensor.
        writing: what is written to the tensor is written to the file; otherwise it must not be
            written to.

    Raises:
        OSError: it cannot be opened, or has another size.
    """
    import torch

    size = math.prod(shape) * dtype.itemsize
    with open(path, "r+b" if writing else "rb") as file:
        if os.fstat(file.fileno()).st_size != size:
            raise OSError(f"{path} does not have {size} bytes")
        if not size:
            return torch.empty(shape, dtype=dtype)
        # PyTorch warns of memory that cannot be written to; a copy is made of what is written.
        access = mmap.ACCESS_WRITE if writing else mmap.ACCESS_COPY
        memory = mmap.mmap(file.fileno(), size, access=access)
        descriptor = os.dup(file.fileno())
    weakref.finalize(memory, os.close, descriptor)
    tensor = torch.frombuffer(memory, dtype=dtype).view(shape)
    _MAPS[memory] = _File(path, descriptor, tensor.data_ptr())
    return tensor


def read_rows(images: Tensor, index: Tensor, into: Tensor) -> None:
    """Copy rows of a tensor; what `mapped` returned is read from its file.

    Args:
        images: (N, ...) on the CPU.
        index: (n,) int64 on the CPU.
        into: (n, ...) of the same type, contiguous, gets `images[index]`.

    Raises:
        EnvironmentFault: somebody has cut the file.
        OSError: the disk cannot be read.
    """
    import torch

    file = _file_of(images)
    if file is None:
        torch.index_select(images, 0, index, out=into)
        return
    row = images[:1].nbytes
    buffer = into.view(-1).numpy().data.cast("B")
    done = 0
    for start, count in _runs(index.tolist()):
        _read(file, buffer[done : done + count * row], start * row)
        done += count * row


def _runs(index: list[int]) -> Iterator[tuple[int, int]]:
    """Yield where rows that follow each other begin, and how many there are."""
    start = count = 0
    for number in index:
        if count and number == start + count:
            count += 1
            continue
        if count:
            yield start, count
        start, count = number, 1
    if count:
        yield start, count


def _read(file: _File, into: memoryview, offset: int) -> None:
    while into:
        count = os.preadv(file.descriptor, [into], offset)
        if not count:
            raise _cut(file.path)
        into, offset = into[count:], offset + count


def _file_of(images: Tensor) -> _File | None:
    """The file of a whole tensor that `mapped` returned, where a file can be read beside it."""
    if hasattr(os, "preadv") and images.is_contiguous():  # rows in another order are no rows there
        for memory, file in list(_MAPS.items()):
            if (file.address, len(memory)) == (images.data_ptr(), images.nbytes):
                return file
    return None


def _cut(path: Path) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} was cut while it was in use.",
        expected="files of the cache that nobody writes to.",
        next="run it again, with --resume if there is a checkpoint; the file is made anew.",
    )


def check_whole() -> None:
    """Refuse to read on if a file has become shorter than its map: the system would end us.

    Raises:
        EnvironmentFault: somebody has cut a file that is mapped.
    """
    for memory, file in list(_MAPS.items()):
        if memory.size() < len(memory):
            raise _cut(file.path)


def let_go() -> None:
    """Take the pages of all maps from this process's memory; the system keeps what it has room for.

    What was read stays in its page cache, and is there again when it is touched.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        for memory in list(_MAPS):
            memory.madvise(mmap.MADV_DONTNEED)


class Passed:
    """Counts the bytes of maps that came into the process, and lets go of their pages in time."""

    def __init__(self) -> None:
        self._bytes = 0

    def __call__(self, count: int) -> None:
        """Be told of more bytes that were read or written, one after the other."""
        self._bytes += count
        if self._bytes > RESIDENT:
            let_go()
            self._bytes = 0

"""Files of numbers as tensors: mapped into memory, so that several processes share one copy."""

from __future__ import annotations

import math
import mmap
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from registry import EnvironmentFault

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RESIDENT = 2**26  # bytes of maps that are in the process before their pages leave it
# Bytes that Linux may map around a place that is touched: 64 KiB, and from 6.18 on the whole folio
# of the page cache, whatever `madvise` is told.
AROUND = 2**21

_MAPS: weakref.WeakKeyDictionary[mmap.mmap, Path] = weakref.WeakKeyDictionary()


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
    _MAPS[memory] = path
    return torch.frombuffer(memory, dtype=dtype).view(shape)


def check_whole() -> None:
    """Refuse to read on if a file has become shorter than its map: the system would end us.

    Raises:
        EnvironmentFault: somebody has cut a file that is mapped.
    """
    for memory, path in list(_MAPS.items()):
        if memory.size() < len(memory):
            raise EnvironmentFault(
                f"{path} was cut while it was in use.",
                expected="files of the cache that nobody writes to.",
                next="run it again, with --resume if there is a checkpoint; the file is made anew.",
            )


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

    def __call__(self, count: int, places: int = 1) -> None:
        """Be told of more bytes that were read or written.

        Args:
            count: how many.
            places: at how many places they lie, apart from where the last ones were. Small images
                here and there bring many times their own bytes.
        """
        self._bytes += count + places * AROUND
        if self._bytes > RESIDENT:
            let_go()
            self._bytes = 0

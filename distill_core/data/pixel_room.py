"""Room for images on the disk: files that are mapped into memory while a dataset fills them."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from distill_core.contracts.data import Room
from distill_core.data.picture_space import LIMIT, limit
from distill_core.system.files import cannot_write
from distill_core.system.mapped import Passed, mapped, reserved
from distill_core.system.units import QUIET_SECONDS, size_text
from registry import EnvironmentFault


class NoRoom(EnvironmentFault):
    """The disk has no room for the images, or the cache cannot be written."""


class DiskRoom(Room):
    """Gives memory whose content is the content of files in one folder.

    Args:
        folder: an empty folder.
        tell: called with lines about space and progress.
        most: bytes of images that may as well lie in memory. Below, they are not to take more of
            the disk than pictures may.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None], *, most: float) -> None:
        self._folder, self._tell, self._most = folder, tell, most
        self._total = 0
        self._given: dict[int, tuple[Path, tuple[int, ...]]] = {}
        self._begin = self._told = time.monotonic()
        self._count = self._each = 0
        self._passed = Passed()

    def empty(self, shape: tuple[int, int, int, int]) -> Tensor:
        """Return the memory of a new file.

        Raises:
            NoRoom: the disk is full.
        """
        size = math.prod(shape)
        if not size:
            return super().empty(shape)
        self._total += size
        if size > limit() and not self.needed:
            raise NoRoom(
                f"the pictures take {size_text(size)}, more than decoded pictures may.",
                expected=f"at most {size_text(limit())}.",
                next=f"set the environment variable {LIMIT} to a larger amount.",
            )
        if self.needed:
            free = shutil.disk_usage(self._folder).free
            self._tell(
                f"prepare  {shape[0]:,} pictures, {size_text(size)} in {self._folder.parent}, "
                f"where {size_text(free)} are free"
            )
        path = self._folder / f"{len(self._given)}.u8"
        try:
            reserved(path, size)
            images = mapped(path, shape, torch.uint8, writing=True)
        except OSError as error:
            fault = cannot_write(path, error, f" ({size / 1e6:,.0f} MB of images)")
            raise NoRoom(fault.what, expected=fault.expected, next=fault.next) from error
        self._each = math.prod(shape[1:])
        self._given[images.data_ptr()] = path, shape
        return images

    @property
    def needed(self) -> bool:
        """Whether the images have to lie on the disk."""
        return self._total > self._most

    def filled(self, count: int) -> None:
        """Say how far it is, now and then, and let go of memory that is written."""
        self._count += count
        self._passed(count * self._each)
        now = time.monotonic()
        if now - self._told > QUIET_SECONDS:
            self._told = now
            each = self._count / (now - self._begin)
            self._tell(f"prepare  {self._count:,} pictures, {each:,.0f} in a second")

    def file_of(self, images: Tensor) -> Path | None:
        """Return the file that holds just these images; None: they lie elsewhere."""
        path, shape = self._given.get(images.data_ptr(), (None, ()))
        return path if tuple(images.shape) == shape and images.is_contiguous() else None

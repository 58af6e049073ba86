"""Room for images on the disk: files that are mapped into memory while a dataset fills them."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_core.contracts.data import Room
from distill_core.data.half_made import HalfMade
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
        folder: an empty folder, or one that is half made.
        tell: called with lines about space and progress.
        most: bytes of images that may as well lie in memory. Below, they are not to take more of
            the disk than pictures may.
        sources: the stamps of what is read; None: nobody goes on with the folder.
    """

    def __init__(
        self,
        folder: Path,
        tell: Callable[[str], None],
        *,
        most: float,
        sources: str | None = None,
    ) -> None:
        self._folder, self._tell, self._most = folder, tell, most
        self._half = None if sources is None else HalfMade.found(folder, sources)
        self._total = 0
        self._given: dict[int, tuple[Path, tuple[int, ...]]] = {}
        self._begin = self._told = time.monotonic()
        self._count = self._each = 0
        self._earlier = self._half.count if self._half else 0
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
        before = sum(given == shape for _, given in self._given.values())
        path = self._folder / f"{'x'.join(map(str, shape))}-{before}.u8"
        try:
            if not path.exists():  # of an earlier process
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

    def begun(self) -> tuple[int, Mapping[str, Any]]:
        """Return what is in place of an earlier process, and say it."""
        if self._half is None or not self._half.count:
            return 0, {}
        self._tell(f"prepare  goes on after {self._half.count:,} pictures, which are there")
        return self._half.count, self._half.noted

    def filled(self, count: int, noted: Callable[[], Mapping[str, Any]] | None = None) -> None:
        """Say how far it is, now and then, and let go of memory that is written."""
        self._count += count
        self._passed(count * self._each)
        if self._half is not None and noted is not None and self._half.is_due:
            files = [path for path, _ in self._given.values()]
            self._half.write(self._earlier + self._count, noted(), files)
        now = time.monotonic()
        if now - self._told > QUIET_SECONDS:
            self._told = now
            each = self._count / (now - self._begin)
            done = self._earlier + self._count
            self._tell(f"prepare  {done:,} pictures, {each:,.0f} in a second")

    def file_of(self, images: Tensor) -> Path | None:
        """Return the file that holds just these images; None: they lie elsewhere."""
        path, shape = self._given.get(images.data_ptr(), (None, ()))
        return path if tuple(images.shape) == shape and images.is_contiguous() else None

"""Decoded pictures in the cache: decoded once, then mapped into memory.

`CACHE/pictures/KEY/` holds one set, as `picture_set.py` writes it. KEY says what was read (the
content of the files), how, and by which versions. `CACHE/pictures/sources/` knows the content of
files again by their stamps.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from math import inf
from pathlib import Path
from typing import Any

from distill_core.contracts.components import Dataset, KeptDataset
from distill_core.contracts.data import RawData, Sources
from distill_core.data.half_made import half_of, recorded
from distill_core.data.mapped_pixels import DiskRoom, NoRoom
from distill_core.data.picture_set import FORMAT, read_set, write_set
from distill_core.data.picture_space import SOURCES, make_space, pictures_dir
from distill_core.system.cached_tensors import Misfit, made_anew
from distill_core.system.files import cannot_write, write_atomically
from distill_core.system.flock import HELD, flock
from distill_core.system.folders import whole_folder
from distill_core.system.stamps import Stamps, content_of, stamps_of
from registry import ContractError, EnvironmentFault, InputError

LOG = logging.getLogger("distill")
# Less is read again about as fast.
WORTH_BYTES, WORTH_FILES = 4 * 2**20, 2000
DIGESTED = 4 * 2**30  # bytes of files; more are known by their stamps alone
DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Reader:
    """Loads a dataset, from the cache if it was loaded before.

    Attributes:
        dataset: the component.
        call: calls a function of the dataset.
        name: of the dataset with its plugin.
        most: bytes of images that may lie in memory. More have to lie on the disk, less are kept
            there if that is worth it and possible.
        tell: called with lines about slow work.
    """

    dataset: Dataset
    call: Callable[..., Any]
    name: str
    most: float = inf
    tell: Callable[[str], None] = LOG.info

    def read(self) -> RawData:
        """Return what the dataset loads.

        Raises:
            InputError: files change while they are read; or images must lie on the disk, and this
                dataset does not say what it reads.
            EnvironmentFault: they must, and there is no room for them.
        """
        if not isinstance(self.dataset, KeptDataset):
            if self.most == 0:
                raise InputError(
                    f"{self.name} cannot keep its images on the disk.",
                    expected="a dataset with `sources` and `load_into`.",
                    next="pass -o data.storage=float32, or write its pictures to a folder and use "
                    "--dataset imagefolder.",
                )
            return self._load()
        sources: Sources = self.call(self.dataset.sources)
        try:
            stamps = stamps_of(sources.files)
            if self.most > 0 and stamps.size < WORTH_BYTES and stamps.count < WORTH_FILES:
                return self._load()
            folder = pictures_dir() / _key(self.name, sources, stamps)
        except OSError:  # a file is missing or cannot be read, and reading it says so
            return self._load()
        try:
            return _kept(folder) or self._made(folder, self.dataset, stamps)
        except NoRoom as error:
            if self.most == 0:
                raise
            LOG.warning("cache    pictures are decoded at each start: %s", error.what)
            return self._load()

    def _load(self) -> RawData:
        return self._checked(self.call(self.dataset.load))

    def _checked(self, raw: object) -> RawData:
        if isinstance(raw, RawData):
            return raw
        raise ContractError(
            f"{self.name} loads a {type(raw).__name__}.",
            expected="RawData.",
            next="tell its author: `distill_core.testing` checks the contract.",
        )

    def _made(self, folder: Path, dataset: KeptDataset, stamps: Stamps) -> RawData:
        """Load the dataset into the cache; who comes meanwhile waits, and finds it there."""
        with _alone(folder, self.tell) as alone:
            with contextlib.suppress(Misfit):  # which was said
                if folder.exists():
                    return read_set(folder)
            return self._filled(folder, dataset, stamps, alone=alone)

    def _filled(
        self, folder: Path, dataset: KeptDataset, stamps: Stamps, *, alone: bool
    ) -> RawData:
        """Load the dataset into a folder, or go on where a process was ended; `alone`: no other
        process does."""
        room = None
        begun = half_of(folder) if alone else None
        try:
            with whole_folder(folder, replace=True, begun=begun) as part, recorded(part):
                sources = stamps.digest if alone else None
                room = DiskRoom(part, self.tell, most=self.most, sources=sources)
                raw = self._checked(self.call(dataset.load_into, room))
                self._check_unchanged(dataset, stamps)
                write_set(part, raw, room)
        except EnvironmentFault as error:
            if room is not None and room.needed:
                raise
            raise _no_room(error) from error
        make_space(keep=folder)
        try:
            return read_set(folder)
        except Misfit as misfit:
            raise NoRoom(
                f"{folder} {misfit}, just after it was written.",
                expected="a disk that keeps what is written.",
                next="look at the disk, or choose another folder with DISTILL_CACHE.",
            ) from None

    def _check_unchanged(self, dataset: KeptDataset, stamps: Stamps) -> None:
        with contextlib.suppress(OSError):  # or one is gone
            if stamps_of(self.call(dataset.sources).files).digest == stamps.digest:
                return
        raise InputError(
            "files of the dataset have changed while they were read.",
            expected="files that stay as they are.",
            next="run it again when nothing writes to them any more.",
        )


def _key(name: str, sources: Sources, stamps: Stamps) -> str:
    """Name a set of pictures by the content of its files, how it is read, and by what."""
    said = {
        "format": FORMAT,
        "dataset": name,
        "how": sources.how,
        "by": {package: metadata.version(package) for package in ("pillow", "torch")},
        "content": _content(sources.files, stamps),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _content(files: Mapping[str, Path], stamps: Stamps) -> str:
    """The digest of files: the earlier one if their stamps are as they were."""
    if not files or stamps.size > DIGESTED:
        return stamps.digest
    known = pictures_dir() / SOURCES / stamps.digest
    with contextlib.suppress(OSError, ValueError):
        if DIGEST.fullmatch(said := known.read_text("ascii")):  # a power loss may leave it empty
            return said
    content = content_of(files)
    if stamps.settled and stamps_of(files).digest == stamps.digest:
        with contextlib.suppress(EnvironmentFault):
            write_atomically(known, content.encode())
    return content


def _kept(folder: Path) -> RawData | None:
    """The pictures of a folder; None: there are none. What does not fit is said, and is none."""
    try:
        return read_set(folder) if folder.exists() else None
    except Misfit as misfit:
        made_anew(folder, str(misfit))
        return None


@contextlib.contextmanager
def _alone(folder: Path, tell: Callable[[str], None]) -> Iterator[bool]:
    """Let one process at a time fill a folder; where there are no locks (false), the last one
    wins."""
    path = folder.with_name(f".{folder.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _no_room(cannot_write(path, error)) from error
    try:
        yield _locked(descriptor, tell)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, tell: Callable[[str], None]) -> bool:
    """Lock a file, once others have released it; return whether it could be locked."""
    try:
        flock(descriptor)
    except OSError as error:
        if error.errno not in HELD:
            return False
        tell("prepare  another run prepares these pictures: this one waits for it")
        try:
            flock(descriptor, patience=float("inf"))
        except OSError:
            return False
    return True


def _no_room(fault: EnvironmentFault) -> NoRoom:
    if isinstance(fault, NoRoom):
        return fault
    return NoRoom(fault.what, expected=fault.expected, next=fault.next)

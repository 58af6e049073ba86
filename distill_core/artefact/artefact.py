"""The artefact: what a run leaves behind, checked when it is read; `saving.py` writes it.

distilled.safetensors   images, soft labels and all parameters; see `packing.py`; or
stored.safetensors      of what is not float32 pixels the numbers alone; see `stored_file.py`
whitening.safetensors   must be applied to test images; large for ZCA, so kept apart, and of results
                        that are shared compact: see `compact_whitening.py`
poster.png, poster_grid.png
manifest.json           written last: the record of the run and the SHA-256 of every file
.previous               while these are replaced, the set before; see `last_set.py`

Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data import TensorDataset

from distill_core import __version__
from distill_core.artefact.absent_whitening import absent
from distill_core.artefact.compact_whitening import expanded, is_compact
from distill_core.artefact.contents import MANIFEST, STORED, WHITENING
from distill_core.artefact.count_storage import stated_storage, stored_storage
from distill_core.artefact.decoding import decoded
from distill_core.artefact.distilled import Distilled, ImageTransform
from distill_core.artefact.last_set import read_set
from distill_core.artefact.manifest import read_manifest
from distill_core.artefact.packing import gathered_bytes, items
from distill_core.artefact.places import located
from distill_core.artefact.result_file import check_there, file_of, folder_of
from distill_core.artefact.soundness import (
    budget_of,
    check_components,
    check_contents,
    check_gathered,
    check_names,
    fit_of,
    refuse,
)
from distill_core.artefact.storage import FLOAT
from distill_core.artefact.stored_file import STORED_FORMAT, is_stored
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.whitening import KINDS, Whitening
from distill_core.system.files import read_tensors
from distill_core.system.plain_files import open_plain
from registry import ExplainedError, InputError

ARTEFACT_FORMAT = 1
# What reading wrong content raises, of plugins that decode it, too.
BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def load(path: str | Path) -> Distilled:
    """Load a distilled dataset: ready to train on, with the transform for test images.

    Args:
        path: a run directory, or the file of its result with whitening.safetensors beside it:
            distilled.safetensors, or stored.safetensors, which is decoded by the plugins that are
            installed here. What it names may be a link; what lies there may not. Also
            "gallery:NAME", and "hf://user/name" of the Hugging Face Hub (see `places.py`).

    Raises:
        InputError: it is no path; a file is missing, truncated, changed since it was written, from
            a newer version of distill, no plain file, or its content cannot be trained on.
    """
    return load_whole(path).distilled


class Whole(NamedTuple):
    """A result, and its tensors as distilled.safetensors has them, decoded where they are not."""

    distilled: Distilled
    tensors: dict[str, Tensor]


def load_whole(path: str | Path) -> Whole:
    """Load a result as `load` does, with where its images lie on canvases; see `packing.py`."""
    named = located(path)
    # Every file has the checksum that another one names, so it need not be checked for a change.
    return read_set(folder_of(named), lambda check: _load(file_of(named)))


def read_about(path: str | Path) -> dict[str, Any]:
    """Return what a result says of itself: its components and more; nothing is decoded.

    Raises:
        InputError: as `load`, of its file alone.
    """
    named = located(path)
    file, _, metadata, _ = read_set(folder_of(named), lambda check: _read(file_of(named)))
    check_components(file, metadata)
    return metadata


def _load(path: Path) -> Whole:
    file, tensors, metadata, verified = _read(path)
    try:
        check_names(file, metadata["class_names"])
        whitening = read_whitening(file, metadata)
        if is_stored(metadata):
            packed, tensors = tensors, decoded(file, tensors, metadata, whitening)
            storage = stored_storage(file, packed, metadata, whitening.values)
        else:
            check_gathered(file, gathered_bytes(tensors))
            storage = stated_storage(tensors, metadata, whitening.values)
        images, labels = items(tensors), tensors["labels"]
        check_contents(file, images, labels, metadata)
        _, channels, h, w = images.shape
        shape = channels, h, w
        if (what := whitening.unfit(shape)) is not None:
            refuse(file.with_name(WHITENING), *what)
        distilled = Distilled(
            dataset=TensorDataset(images, labels),
            class_names=tuple(metadata["class_names"]),
            transform=ImageTransform(
                image_shape=shape, whitening=whitening, fit=fit_of(file, metadata)
            ),
            recipe=Recipe.model_validate(metadata["recipe"]),
            budget=budget_of(file, metadata["budget"]),
            storage=storage,
            metadata=metadata,
            path=file,
            verified=verified,
            is_pixels=storage.is_pixels(tensors["pixels"].numel()),
        )
        return Whole(distilled, tensors)
    except ExplainedError:
        raise
    except BROKEN as error:
        raise InputError(
            f"{file} is not a complete artefact ({type(error).__name__}: {error!s:.400}).",
            expected="a file that `distill run` wrote.",
            next="restore it from a copy, or run again.",
        ) from error


class _Stored(NamedTuple):
    """The file of an artefact, its content, and whether a checksum confirms it."""

    file: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    verified: bool


def _read(file: Path) -> _Stored:
    check_there(file)
    if (expected := _listed_sha256(file)) is not None:
        _check_sha256(file, expected, f"{MANIFEST} beside it")
    tensors, metadata = read_tensors(file)
    if file.name == STORED and not is_stored(metadata):
        raise InputError(
            f"{file} has the stored numbers alone, without recipe and class names.",
            expected="a run directory, or such a file that a newer distill wrote.",
            next="load the directory; docs/guide/use-the-result.md has plain code for this file.",
        )
    known = STORED_FORMAT if is_stored(metadata) else ARTEFACT_FORMAT
    if metadata.get("format") != known:
        writer = metadata.get("distill", "(unknown)")
        raise InputError(
            f"{file} has format {metadata.get('format')!r}, written by distill {writer}.",
            expected=f"format {known}, which distill {__version__} reads.",
            next=f"use distill {writer}.",
        )
    return _Stored(file, tensors, metadata, verified=expected is not None)


def read_whitening(file: Path, metadata: Mapping[str, Any]) -> Whitening:
    """Read the whitening beside the file of a result; stored numbers may lie alone.

    Args:
        file: where the result was read.
        metadata: of it.

    Raises:
        InputError: it is missing, or another one.
    """
    stated, path = metadata["whitening"], file.with_name(WHITENING)
    if is_stored(metadata) and stated["kind"] in KINDS and not os.path.lexists(path):
        return absent(stated["kind"], path)
    _check_whitening(file, stated["sha256"])
    values, _ = read_tensors(path)
    if is_compact(values):
        shape = tuple(metadata["image_shape"])
        check_gathered(path, FLOAT * prod(shape) ** 2)
        values = expanded(values, shape)
    return Whitening.from_tensors(stated["kind"], values)


def whitening_header(kind: str, image_shape: Sequence[int]) -> dict[str, Any]:
    """Return the metadata of whitening.safetensors, for images (C, h, w)."""
    return {"format": ARTEFACT_FORMAT, "kind": kind, "image_shape": list(image_shape)}


def _check_whitening(file: Path, expected: str) -> None:
    path = file.with_name(WHITENING)
    if not path.exists():
        raise InputError(
            f"{path} is missing.",
            expected=f"the whitening of the data beside {file.name}; test images need it.",
            next="copy it from the run directory, too.",
        )
    _check_sha256(path, expected, file.name)


def _listed_sha256(file: Path) -> str | None:
    """Return the checksum of a file in manifest.json; None if there is no manifest."""
    if not file.with_name(MANIFEST).exists():
        return None
    try:
        listed = read_manifest(file.parent)["files"].get(file.name)
        if isinstance(listed, str | None):
            return listed
        raise TypeError(f"the checksum of {file.name} is not text")
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            f"{file.with_name(MANIFEST)} does not list the checksums of files.",
            expected="the manifest that the run wrote.",
            next="restore it from a copy of the run.",
        ) from None


def _check_sha256(file: Path, expected: str, source: str) -> None:
    found = file_sha256(file)
    if found != expected:
        raise InputError(
            f"{file} was changed or cut short after it was written: its SHA-256 is {found[:12]}...",
            expected=f"{expected[:12]}..., as {source} says.",
            next="restore it from a copy; if the run is still going, try again in a moment.",
        )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        InputError: it is no plain file.
    """
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

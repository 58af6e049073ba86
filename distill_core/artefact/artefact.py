"""The artefact: what a run leaves behind, checked when it is read; `saving.py` writes it.

distilled.safetensors   images, soft labels and all parameters; see `packing.py`
whitening.safetensors   must be applied to test images; large for ZCA, so kept apart
poster.png, poster_grid.png
manifest.json           written last: the record of the run and the SHA-256 of every file
.previous               while these are replaced, the set before; see `last_set.py`

Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from distill_core import __version__
from distill_core.artefact.contents import DISTILLED, MANIFEST, STORED, WHITENING
from distill_core.artefact.distilled import Distilled, ImageTransform
from distill_core.artefact.last_set import current_file, read_set
from distill_core.artefact.manifest import read_manifest
from distill_core.artefact.metre import stated_storage
from distill_core.artefact.packing import gathered_bytes, items
from distill_core.artefact.places import located
from distill_core.contracts.data import can_be_shown
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import Budget
from distill_core.contracts.whitening import Whitening
from distill_core.data.resize import Fit
from distill_core.system.door import open_plain
from distill_core.system.files import read_tensors
from registry import ExplainedError, InputError

ARTEFACT_FORMAT = 1
ON_SIMPLEX = 1e-4  # how far a float32 row of labels may be from summing to one
# Bytes of images that a file may make by its index tables: so many, and more for each of its own.
# Posters of large images cut a pixel out a hundred times; a crafted file, a million times.
LEAST_GATHERED, GATHERED = 2**28, 1024


def load(path: str | Path) -> Distilled:
    """Load a distilled dataset: ready to train on, with the transform for test images.

    Args:
        path: a run directory, or its distilled.safetensors with whitening.safetensors beside it.
            What it names may be a link; what lies there may not. Also "gallery:NAME", and
            "hf://user/name" of the Hugging Face Hub (see `places.py`).

    Raises:
        InputError: a file is missing, truncated, changed since it was written, from a newer
            version of distill, no plain file, or its content cannot be trained on.
    """
    file = file_of(located(path))
    # Every file has the checksum that another one names, so it need not be checked for a change.
    return read_set(file.parent, lambda check: _load(current_file(file)))


def file_of(named: Path) -> Path:
    """Return the distilled.safetensors that a user names by itself, by a link, or by its folder."""
    return named / DISTILLED if named.is_dir() else named.resolve() if named.is_symlink() else named


def _load(path: Path) -> Distilled:
    if path.name == STORED:
        raise InputError(
            f"{path} has the stored numbers alone, without recipe, class names and whitening.",
            expected="a run directory, or its distilled.safetensors.",
            next="load the directory; docs/guide/use-the-result.md has plain code for this file.",
        )
    file, tensors, metadata, verified = _read(path)
    try:
        _check_whitening(file, metadata["whitening"]["sha256"])
        values, _ = read_tensors(file.with_name(WHITENING))
        check_gathered(file, gathered_bytes(tensors))
        images, labels = items(tensors), tensors["labels"]
        check_contents(file, images, labels, metadata)
        whitening = Whitening.from_tensors(metadata["whitening"]["kind"], values)
        _, channels, h, w = images.shape
        shape = channels, h, w
        if (what := whitening.unfit(shape)) is not None:
            _refuse(file.with_name(WHITENING), *what)
        storage = stated_storage(tensors, metadata, values)
        return Distilled(
            dataset=TensorDataset(images, labels),
            class_names=tuple(metadata["class_names"]),
            transform=ImageTransform(
                image_shape=shape, whitening=whitening, fit=_fit(file, metadata)
            ),
            recipe=Recipe.model_validate(metadata["recipe"]),
            budget=_budget(file, metadata["budget"]),
            storage=storage,
            metadata=metadata,
            path=file,
            verified=verified,
            is_pixels=storage.is_pixels(tensors["pixels"].numel()),
        )
    except ExplainedError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(
            f"{file} is not a complete artefact ({type(error).__name__}: {error}).",
            expected="a file that `distill run` wrote.",
            next="restore it from a copy, or run again.",
        ) from error


def _budget(file: Path, stored: Mapping[str, Any]) -> Budget:
    for name, value in stored.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e300:
            _refuse(file, f"its budget has {name} = {value!r:.50}", "numbers that are not negative")
    return Budget(**stored)


class _Stored(NamedTuple):
    """The file of an artefact, its content, and whether a checksum confirms it."""

    file: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    verified: bool


def _read(file: Path) -> _Stored:
    if not os.path.lexists(file):
        raise InputError(
            f"{file} does not exist.",
            expected="a run directory with a result, or a distilled.safetensors.",
            next="check the path; a run writes its result at every checkpoint.",
        )
    if (expected := _listed_sha256(file)) is not None:
        _check_sha256(file, expected, f"{MANIFEST} beside it")
    tensors, metadata = read_tensors(file)
    if metadata.get("format") != ARTEFACT_FORMAT:
        writer = metadata.get("distill", "(unknown)")
        raise InputError(
            f"{file} has format {metadata.get('format')!r}, written by distill {writer}.",
            expected=f"format {ARTEFACT_FORMAT}, which distill {__version__} reads.",
            next=f"use distill {writer}.",
        )
    return _Stored(file, tensors, metadata, verified=expected is not None)


def check_gathered(file: Path, size: int) -> None:
    """Refuse to make more of a file than it can hold: tables may name a pixel again and again.

    Args:
        file: where they were read.
        size: bytes that are to be made.

    Raises:
        InputError: these are too many for a file of its size.
    """
    most = LEAST_GATHERED + GATHERED * file.stat().st_size
    if size > most:
        _refuse(
            file,
            f"{size / 1e6:,.0f} MB of images would be made of {file.stat().st_size / 1e6:,.1f} MB",
            f"at most {most / 1e6:,.0f} MB",
        )


def _fit(file: Path, metadata: Mapping[str, Any]) -> Fit:
    """How pictures were brought to the size of the images."""
    fit: Fit = metadata.get("fit", "crop")
    if fit not in get_args(Fit):
        _refuse(file, f"its pictures were fitted by {fit!r}", "crop or squash")
    return fit


def check_contents(file: Path, images: Tensor, labels: Tensor, metadata: Mapping[str, Any]) -> None:
    """Refuse images and labels that cannot be trained on: a file may come from a stranger.

    Args:
        file: where they were read.
        images: should be (n, C, h, w), finite.
        labels: should be (n, K), finite; on the simplex unless "simplex" is false.
        metadata: has "image_shape", "class_names" and perhaps "simplex".

    Raises:
        InputError: the message says what is wrong.
    """
    _check_components(file, metadata.get("components", {}))
    shape, names = tuple(metadata["image_shape"]), metadata["class_names"]
    if not all(isinstance(name, str) for name in names) or not isinstance(names, list):
        _refuse(file, "its class names are not a list of text", "a name for every class")
    if not all(map(can_be_shown, names)):
        _refuse(file, "a class name has characters that cannot be shown", "names to print")
    if images.dim() != 4 or tuple(images.shape[1:]) != shape or not len(images):
        _refuse(
            file,
            f"its images have shape {tuple(images.shape)}",
            f"(n, {', '.join(map(str, shape))}), as its metadata says",
        )
    if labels.shape != (len(images), len(names)):
        _refuse(
            file,
            f"its labels have shape {tuple(labels.shape)}",
            f"({len(images)}, {len(names)}): a row for each image, a column for each class name",
        )
    for what, tensor in (("images", images), ("labels", labels)):
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            _refuse(file, f"its {what} are not all finite numbers", "finite floating-point numbers")
    row = None if not metadata.get("simplex", True) else off_simplex(labels)
    if row is not None:
        _refuse(
            file,
            f"row {row} of its labels is not a distribution over the classes",
            "numbers >= 0 that sum to 1, as the recipe's cross-entropy needs them",
        )


def _check_components(file: Path, components: Any) -> None:
    """Refuse what is no table of components with a name each; their names are printed."""
    sound = isinstance(components, dict) and all(
        isinstance(each, dict) and isinstance(name := each.get("name"), str) and name.isprintable()
        for each in components.values()
    )
    if not sound or not all(map(str.isprintable, components)):
        _refuse(file, "its components have no names to print", "a table of them, each with a name")


def off_simplex(labels: Tensor) -> int | None:
    """Return the first row of labels (n, K) that is not a distribution; None if all are."""
    sums = (labels.double().sum(1) - 1).abs() > ON_SIMPLEX
    found = (sums | (labels < -ON_SIMPLEX).any(1)).nonzero()
    return int(found[0]) if len(found) else None


def _refuse(file: Path, what: str, expected: str) -> None:
    raise InputError(
        f"{file} cannot be used: {what}.",
        expected=f"{expected}.",
        next="restore it from a copy, or ask who made it; `distill verify` checks a whole run.",
    )


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

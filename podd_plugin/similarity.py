"""How alike classes are: by their names (CLIP), by given embeddings, or by their images."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import torch
from torch import Tensor

from distill_core.plugin import (
    InputError,
    RealData,
    at_home,
    class_features,
    cosine_distances,
    match_names,
)
from podd_plugin.clip_embeddings import is_cached, name_embeddings
from podd_plugin.clip_text import local_weights
from podd_plugin.options import SimilarityOptions

LARGEST_FILE = 256 * 2**20  # bytes of embeddings, unpacked


@dataclass(frozen=True)
class ClassDistances:
    """Distances between classes and where they come from.

    Attributes:
        distances: (K, K) float64, one minus the cosine.
        source: clip, file or image.
        reason: one line: why this source, and which weights or file.
    """

    distances: Tensor
    source: str
    reason: str


def class_distances(options: SimilarityOptions, real: RealData) -> ClassDistances:
    """Return the distances between the classes of a dataset.

    Raises:
        InputError: the file or the weights cannot be used.
        EnvironmentFault: CLIP was asked for, is not on this machine and cannot be downloaded.
    """
    names = real.spec.class_names
    clip = options.clip
    asked = "as asked" if options.similarity != "auto" else "auto"
    source, found = _choose(options, names)
    if source == "file":
        file = _embeddings_file(options)
        embeddings = _read_embeddings(file, names)
        reason = f"{asked}: {_told(file)}"
    elif source == "clip":
        embeddings = name_embeddings(clip, options.prompts, names)
        reason = f"{asked}: {clip}, prompt '{options.prompt}'"
    else:
        embeddings = class_features(real)
        why = "" if found else f"; {clip} is not on this machine"
        reason = f"{asked}: class means of the training images{why}"
    return ClassDistances(cosine_distances(embeddings), source, reason)


def _choose(options: SimilarityOptions, names: tuple[str, ...]) -> tuple[str, bool]:
    """Which source to use; False if CLIP was looked for and not found."""
    if options.similarity != "auto":
        return options.similarity, True
    if options.file is not None:
        return "file", True
    # The cache first: it is read without open_clip.
    found = is_cached(options.clip, options.prompts, names) or (
        local_weights(options.clip) is not None
    )
    return ("clip" if found else "image"), found


def _embeddings_file(options: SimilarityOptions) -> Path:
    if options.file is None:
        raise InputError(
            "-o orderer.similarity=file has no file.",
            expected="an .npz file with an array 'embeddings' (K, d).",
            next="add -o orderer.file=PATH.",
        )
    return at_home(options.file, "orderer.file")


def _told(file: Path) -> str:
    """Name a file without its folders, which no result is to show, but so that it can be told."""
    with file.open("rb") as stream:
        return f"{file.name}, SHA-256 {file_digest(stream, 'sha256').hexdigest()[:12]}..."


def _read_embeddings(file: Path, names: tuple[str, ...]) -> Tensor:
    """(K, d) rows in label order from an .npz file."""
    from zipfile import ZipFile

    import numpy

    try:
        with ZipFile(file) as archive:
            if sum(each.file_size for each in archive.infolist()) > LARGEST_FILE:
                raise ValueError(f"it unpacks to more than {LARGEST_FILE // 2**20} MiB")
        with numpy.load(file, allow_pickle=False) as arrays:
            table = torch.from_numpy(arrays["embeddings"].astype("float64"))
            named = arrays.get("names")
            if named is not None and named.ndim != 1:
                raise ValueError(f"'names' has shape {named.shape}")
            given = None if named is None else [str(name) for name in named]
    except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged files
        raise InputError(
            f"{file} cannot be read as class embeddings: {error}.",
            expected="an .npz file with an array 'embeddings' (K, d), and perhaps 'names' (K,).",
            next="correct -o orderer.file=PATH.",
        ) from None
    rows = len(names) if given is None else len(given)
    if table.dim() != 2 or len(table) != rows or not bool(table.isfinite().all()):
        raise InputError(
            f"{file} has embeddings of shape {tuple(table.shape)} for {rows} names"
            + ("." if bool(table.isfinite().all()) else ", some of them not finite."),
            expected=f"finite numbers of shape ({rows}, d).",
            next="correct the file, or pass another with -o orderer.file=PATH.",
        )
    return table if given is None else table[match_names(names, given, source=str(file))]

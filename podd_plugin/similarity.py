"""How alike classes are: by their names (CLIP), by given embeddings, or by their images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from distill_core.plugin import (
    InputError,
    Options,
    RealData,
    class_features,
    cosine_distances,
    match_names,
)
from podd_plugin.clip_embeddings import is_cached, name_embeddings
from podd_plugin.clip_text import ClipModel, local_weights

LARGEST_FILE = 256 * 2**20  # bytes of embeddings, unpacked


class SimilarityOptions(Options):
    """Where the distances between classes come from."""

    similarity: Literal["auto", "clip", "file", "image"] = Field(
        "auto",
        description="clip: class names through a CLIP text encoder (paper); file: embeddings "
        "from a file; image: class means of the training images, for names without meaning; "
        "auto: file if one is named, clip if its weights or embeddings are on this machine, else "
        "image",
    )
    file: Path | None = Field(
        None,
        description=".npz with embeddings (K, d) in label order, or in any order with names (K,)",
    )
    prompt: str = Field(
        "{}",
        description="text for a class, {} standing for its name; several, with | between them, are "
        "averaged",
    )
    model: str = Field("ViT-B-32-quickgelu", description="open_clip model")
    pretrained: str = Field(
        "openai", description="open_clip's name of the weights, or a path as for weights"
    )
    weights: Path | None = Field(
        None,
        description="local weights instead: a .safetensors file, or a folder with "
        "open_clip_config.json and a .safetensors file",
    )

    @field_validator("prompt")
    @classmethod
    def _has_place(cls, prompt: str) -> str:
        if not all("{}" in text for text in prompt.split("|")):
            raise ValueError("a text with {} where the class name goes")
        return prompt

    @property
    def prompts(self) -> list[str]:
        """The single texts of `prompt`."""
        return [text.strip() for text in self.prompt.split("|")]

    @property
    def clip(self) -> ClipModel:
        """The CLIP model."""
        return ClipModel.of(self.model, self.pretrained, self.weights)


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
        embeddings = _read_embeddings(options.file, names)
        reason = f"{asked}: {options.file}"
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


def _read_embeddings(file: Path | None, names: tuple[str, ...]) -> Tensor:
    """(K, d) rows in label order from an .npz file."""
    from zipfile import ZipFile

    import numpy

    if file is None:
        raise InputError(
            "similarity=file has no file.",
            expected="an .npz file with an array 'embeddings' (K, d).",
            next="add -o orderer.file=PATH.",
        )
    try:
        with ZipFile(file) as archive:
            if sum(each.file_size for each in archive.infolist()) > LARGEST_FILE:
                raise ValueError(f"it unpacks to more than {LARGEST_FILE // 2**20} MiB")
        with numpy.load(file, allow_pickle=False) as arrays:
            table = torch.from_numpy(arrays["embeddings"].astype("float64"))
            given = [str(name) for name in arrays["names"]] if "names" in arrays else None
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
            next="correct the file.",
        )
    return table if given is None else table[match_names(names, given, source=str(file))]

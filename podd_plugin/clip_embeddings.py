"""CLIP embeddings of class names, kept in the cache: the model is loaded once for each wording."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import normalize

from distill_core.plugin import (
    ANY_SIDE,
    Misfit,
    cache_dir,
    keep_tensors,
    kept_tensors,
    made_anew,
)
from podd_plugin.clip_text import ClipModel, embed_text, identity

NAME = "embeddings"


def name_embeddings(model: ClipModel, prompts: Sequence[str], names: Sequence[str]) -> Tensor:
    """Return the embedding of every class name, from the cache if it is there: (K, d) float32.

    Args:
        model: which CLIP.
        prompts: texts with {} for the name; the embeddings of several, each of length 1, are
            averaged.
        names: K class names; underscores become blanks.

    Raises:
        InputError: the model is unknown, or its weights do not fit it.
        EnvironmentFault: the weights must be downloaded and cannot be, or the cache cannot be
            written.

    Source: averaging over prompts, Radford et al. 2021 (arXiv:2103.00020), section 3.1.4.
    """
    record = _record(model, prompts, names)
    try:
        return _read(record, names)
    except Misfit as misfit:
        made_anew(_path(record), str(misfit))
    except FileNotFoundError:
        pass
    embedded = embed_text(model, record["texts"]).view(len(prompts), len(names), -1)
    made = embedded[0] if len(prompts) == 1 else normalize(embedded, dim=-1).mean(0)
    keep_tensors(_path(record), {NAME: made}, record)
    return made


def is_cached(model: ClipModel, prompts: Sequence[str], names: Sequence[str]) -> bool:
    """Say whether `name_embeddings` would need no model."""
    try:
        return bool(len(_read(_record(model, prompts, names), names)))
    except (Misfit, FileNotFoundError):
        return False


def _record(model: ClipModel, prompts: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Everything that the embeddings depend on."""
    plain = [name.replace("_", " ") for name in names]
    texts = [prompt.replace("{}", name) for prompt in prompts for name in plain]
    return {"model": identity(model), "prompts": len(prompts), "texts": texts}


def _read(record: dict[str, Any], names: Sequence[str]) -> Tensor:
    """What is in the cache: (K, d).

    Raises:
        FileNotFoundError: nothing.
        Misfit: something else.
    """
    return kept_tensors(_path(record), record, {NAME: (len(names), ANY_SIDE)})[NAME]


def _path(record: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    return cache_dir() / "clip" / f"{digest.hexdigest()[:32]}.safetensors"

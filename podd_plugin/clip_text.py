"""CLIP's text encoder: where its weights are, and embeddings of texts.

open_clip is slow to import and its weights are large; both only when they are needed. Weights
are read from safetensors alone.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_core.plugin import InputError, at_home
from podd_plugin.clip_download import download

WEIGHTS_NAME = "open_clip_model.safetensors"
CONFIG_NAME = "open_clip_config.json"
PICKLES = (".pt", ".pth", ".bin")
BATCH = 256


@dataclass(frozen=True)
class ClipModel:
    """Which CLIP model.

    Attributes:
        name: open_clip's name of the architecture.
        pretrained: open_clip's name of the weights.
        weights: a local file or folder instead of `pretrained`; see `of`.
    """

    name: str
    pretrained: str
    weights: Path | None = None

    def __str__(self) -> str:
        # Without folders: this text is kept in results.
        weights = self.weights.resolve().name if self.weights else self.pretrained
        return f"CLIP {self.name} ({weights})"

    @classmethod
    def of(cls, name: str, pretrained: str, weights: Path | None = None) -> ClipModel:
        """Take a path in place of the name of the weights, as open_clip does.

        >>> ClipModel.of("ViT-B-32", "tower.safetensors").weights.name
        'tower.safetensors'
        """
        if weights is not None:
            return cls(name, pretrained, at_home(weights, "orderer.weights"))
        path = at_home(Path(pretrained), "the path of CLIP's weights")
        is_path = path.name != pretrained or path.suffix in (".safetensors", *PICKLES)
        return cls(name, pretrained, path if is_path else None)


def identity(model: ClipModel) -> list[str]:
    """Return what tells models apart: names, or the SHA-256 of local files.

    Raises:
        InputError: the user named weights that are not there or not safetensors.
    """
    if model.weights is None:
        return [model.name, model.pretrained]
    file = _named_weights(model.weights)
    if not model.weights.is_dir():
        return [model.name, _sha256(file)]
    return [_sha256(model.weights / CONFIG_NAME), _sha256(file)]


def embed_text(model: ClipModel, texts: Sequence[str]) -> Tensor:
    """Return the pooled, projected text embeddings: (n, d) float32.

    Weights that are not on this machine are downloaded, which is announced.

    Raises:
        InputError: the model is unknown, or its weights do not fit it.
        EnvironmentFault: the weights must be downloaded and cannot be.
    """
    weights = local_weights(model) or _download(model)
    # Layers draw initial weights, all replaced, from the global random state.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        encoder, tokenizer = _load(model, weights)
        tokens: Tensor = tokenizer(list(texts))
        parts = tokens.split(BATCH)  # type: ignore[no-untyped-call]
        return torch.cat([encoder.encode_text(part) for part in parts])


def _load(model: ClipModel, weights: Path) -> tuple[Any, Any]:
    import open_clip
    from safetensors import SafetensorError

    folder = model.weights is not None and model.weights.is_dir()
    name = f"local-dir:{model.weights}" if folder else model.name
    quick_gelu = bool(_published(model).get("quick_gelu"))
    # What does not fit comes up in many ways.
    misfits = (RuntimeError, ValueError, OSError, LookupError, AssertionError, SafetensorError)
    try:
        encoder = open_clip.create_model(
            name,
            pretrained=None if folder else str(weights),
            force_quick_gelu=quick_gelu,
            require_pretrained=True,
        )
        return encoder.eval(), open_clip.get_tokenizer(name)
    except misfits as error:
        reason = str(error).partition("\n")[0][:200].rstrip(".: ")
        raise InputError(
            f"the weights {weights} do not load into CLIP model '{name}': {reason}.",
            expected="weights of this very model, in safetensors.",
            next="correct -o orderer.model and -o orderer.pretrained, or use "
            "-o orderer.similarity=image.",
        ) from None


def local_weights(model: ClipModel) -> Path | None:
    """Return the weights if they are on this machine: named by the user or in the cache.

    Raises:
        InputError: the user named weights that are not there or not safetensors.
    """
    if model.weights is not None:
        return _named_weights(model.weights)
    from huggingface_hub import constants, try_to_load_from_cache

    # Where the cache has no model of this form, there is no need for the slow import.
    if not any(Path(constants.HF_HUB_CACHE).glob(f"models--*/snapshots/*/{WEIGHTS_NAME}")):
        return None
    repository = _repository(model)
    cached = try_to_load_from_cache(repository, WEIGHTS_NAME) if repository else None
    return Path(cached) if isinstance(cached, str) else None


def _named_weights(path: Path) -> Path:
    file = path / WEIGHTS_NAME if path.is_dir() else path
    if file.suffix in PICKLES and file.is_file():
        raise InputError(
            f"{file} is a pickle, which can run code when it is read.",
            expected="weights in safetensors.",
            next='convert a file that you trust, once: python -c "import open_clip, '
            "safetensors.torch as s; s.save_model(open_clip.create_model('MODEL', 'FILE'), "
            "'FILE.safetensors')\", and pass -o orderer.pretrained=FILE.safetensors.",
        )
    config_missing = path.is_dir() and not (path / CONFIG_NAME).is_file()
    if file.suffix != ".safetensors" or not file.is_file() or config_missing:
        raise InputError(
            f"no CLIP weights at {path}.",
            expected=f"a .safetensors file, or a folder with {CONFIG_NAME} and {WEIGHTS_NAME}.",
            next="correct -o orderer.pretrained=PATH, or -o orderer.weights=PATH.",
        )
    return file


def _published(model: ClipModel) -> dict[str, Any]:
    """What open_clip knows about the weights; empty for local ones.

    Raises:
        InputError: it knows no such weights.
    """
    if model.weights is not None:
        return {}
    import open_clip

    found: dict[str, Any] = open_clip.get_pretrained_cfg(model.name, model.pretrained)
    if not found:
        tags = open_clip.list_pretrained_tags_by_model(model.name)
        if not tags:
            names = sorted({name for name, _ in open_clip.list_pretrained()})
            near = difflib.get_close_matches(model.name, names, n=5, cutoff=0)
            raise InputError(
                f"open_clip has no model '{model.name}'.",
                expected=f"one of its {len(names)} models; the nearest are {', '.join(near)}.",
                next="pass -o orderer.model=NAME, or -o orderer.similarity=image to do without.",
            )
        raise InputError(
            f"open_clip has no weights '{model.pretrained}' for model '{model.name}'.",
            expected=f"one of: {', '.join(tags)}.",
            next="pass -o orderer.pretrained=NAME, or another -o orderer.model.",
        )
    return found


def _repository(model: ClipModel) -> str | None:
    return str(_published(model).get("hf_hub", "")).strip("/") or None


def _download(model: ClipModel) -> Path:
    repository = _repository(model)
    if repository is None:
        raise InputError(
            f"{model} has no weights in safetensors to download.",
            expected="weights with a repository on the Hugging Face hub.",
            next="download them yourself, convert them to safetensors, and pass "
            "-o orderer.pretrained=PATH.",
        )
    return download(repository, WEIGHTS_NAME, what=str(model))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

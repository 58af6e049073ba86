"""Files of the cache that say what they are: what went into them, and a digest of what came out.

What does not fit is told to the user in one sentence, through Python's logging (logger `distill`;
without a handler the sentence goes to stderr), and made anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core.system.files import read_tensors, write_tensors
from registry import InputError

if TYPE_CHECKING:
    from torch import Tensor

LOG = logging.getLogger("distill")
DIGESTS = "sha256"
Shape = tuple[int, ...]  # ANY_SIDE for a side of any length
ANY_SIDE = -1


class Misfit(Exception):
    """A file does not hold what it should; the message says why, as the end of a sentence."""


def made_anew(path: Path, why: str) -> None:
    """Tell the user that a file of the cache does not fit, so that what it held is made anew.

    Args:
        path: the file.
        why: what is wrong, as the rest of a sentence that begins with the path.
    """
    LOG.warning("cache    %s %s: it is made anew", path, why)


def keep_tensors(path: Path, tensors: Mapping[str, Tensor], key: Mapping[str, Any]) -> None:
    """Write tensors with what they were made from, and the digest of each.

    Args:
        path: the file; replaced atomically.
        tensors: what came out.
        key: what went in, JSON values.

    Raises:
        EnvironmentFault: as `write_atomically`.
    """
    write_tensors(path, tensors, {**key, DIGESTS: _digests(tensors)})


def kept_tensors(
    path: Path,
    key: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    *,
    others: Collection[str] = (),
    without_digests: Callable[[], None] | None = None,
) -> dict[str, Tensor]:
    """Read tensors that `keep_tensors` wrote, if they are what is meant.

    Args:
        path: the file.
        key: what they must have been made from.
        shapes: the tensors to read, each float32 of this shape (`ANY_SIDE`: any side) and finite.
        others: further entries of the record, which are not compared.
        without_digests: called for a file of an earlier version, which has none; None: such a file
            does not fit.

    Raises:
        FileNotFoundError: there is no such file.
        Misfit: it is damaged, or holds something else.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    if not path.is_file():
        raise Misfit("is not a file")
    try:
        tensors, said = read_tensors(path, shapes)
    except InputError as error:
        raise Misfit("cannot be read") from error
    if {name: value for name, value in said.items() if name not in {DIGESTS, *others}} != {**key}:
        raise Misfit("was made from something else")
    for name, shape in shapes.items():
        _check(tensors.get(name), shape)
    if DIGESTS not in said and without_digests:
        without_digests()
    elif said.get(DIGESTS) != {**_table(said), **_digests(tensors)}:
        raise Misfit("does not have the digest of what it holds")
    return tensors


def _digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: tensor_digest(tensor) for name, tensor in tensors.items()}


def _table(said: Mapping[str, Any]) -> dict[str, Any]:
    found = said.get(DIGESTS)
    return found if isinstance(found, dict) else {}


def _check(tensor: Tensor | None, shape: Shape) -> None:
    """Refuse a tensor of another shape or type, or with numbers that are not finite."""
    if tensor is None or not _fits(tensor, shape) or str(tensor.dtype) != "torch.float32":
        found = "nothing" if tensor is None else f"{tuple(tensor.shape)} of {tensor.dtype}"
        raise Misfit(f"holds {found} instead of {shape} of torch.float32")
    if not bool(tensor.isfinite().all()):
        raise Misfit("holds numbers that are not finite")


def _fits(tensor: Tensor, shape: Shape) -> bool:
    return tensor.ndim == len(shape) and all(
        wanted in {ANY_SIDE, side} for side, wanted in zip(tensor.shape, shape, strict=True)
    )


def tensor_digest(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's type, shape and bytes."""
    import torch

    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype}{tuple(plain.shape)}".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

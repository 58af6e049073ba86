"""Fit a whitening on the training split alone, in float64.

The matrices of the ZCA variants cost O(d^3) for d = C h w, and are kept in the cache.
`distill_core/contracts/whitening.py` applies and inverts a whitening.

Letters: N images, C channels, h w their size, d = C h w.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from distill_core.contracts.data import Known, find_anew
from distill_core.contracts.whitening import KINDS, Whitening, normalise, unit_range
from distill_core.data.image_chunks import image_chunks
from distill_core.system.cache import cache_dir
from distill_core.system.cached_tensors import Misfit, keep_tensors, kept_tensors, made_anew
from distill_core.system.units import size_text
from registry import InputError, UnknownNameError

MOST_NUMBERS = 3 * 64 * 64


def fit_whitening(
    kind: str,
    images: Tensor,
    *,
    strength: float,
    index: Tensor | None = None,
    known: Known = find_anew,
    part: str = "all",
) -> Whitening:
    """Fit a whitening, or read its matrix from the cache if it was fitted before.

    ZCA on d = C h w numbers per image takes O(N d^2 + d^3) time and 8 d^2 bytes for each of a few
    matrices: 25 s and 0.4 GB on one CPU core for CIFAR-10 (d = 3072), and extrapolated half an hour
    and 6 GB for Tiny ImageNet (d = 12288).

    Args:
        kind: "none", "standardise", "zca", "zca_kornia" or "zca_frepo".
        images: (N, C, h, w) uint8, N >= 1.
        index: (n,) int64, the images of the training split; None: all.
        known: of the raw data.
        part: says to `known` which images `index` chooses.
        strength: regulariser of ZCA. For zca and zca_frepo in units of the covariance's mean
            eigenvalue; for zca_kornia absolute, for pixels from 0 to 1.

    Raises:
        UnknownNameError: there is no such kind.
        InputError: images are too large for ZCA.
        EnvironmentFault: the cache cannot be written.

    Source: zca: RaT-BPTT's and PoDD's published code (covariance of normalised images, mean not
        removed). zca_kornia: kornia's `zca_mean` as MTT and TESLA call it. zca_frepo: published
        code of FRePo and RCIG (channels standardised, mean image removed).
    """
    if kind == "none":
        return Whitening(kind)
    if kind == "standardise":
        found = known(f"channels of {part}", lambda: _plain(_fit_channels(images, index)))
        return Whitening(kind, {name: torch.tensor(value) for name, value in found.items()})
    if kind not in KINDS:
        raise UnknownNameError("whitening", kind, known=KINDS, next="pass -o data.whitening=NAME.")
    d = images[0].numel()
    images_digest = known(
        f"digest of {part} for {kind} {strength!r}", lambda: _digest(kind, images, index, strength)
    )
    path = cache_dir() / "whitening" / f"{images_digest}.safetensors"
    key = {"whitening": kind, "strength": strength, "images": images_digest}
    sizes = {"matrix": (d, d), "mean": (d,), "std": (images.shape[1],)}
    shapes = {name: sizes[name] for name in KINDS[kind]}
    try:
        return Whitening.from_tensors(kind, kept_tensors(path, key, shapes))
    except Misfit as misfit:
        made_anew(path, str(misfit))
    except FileNotFoundError:
        pass
    if d > MOST_NUMBERS:
        raise InputError(
            f"whitening '{kind}' of images of {d:,} numbers takes a matrix of "
            f"{size_text(8 * d * d)}, several times over.",
            expected=f"at most {MOST_NUMBERS:,} numbers, as 3x64x64.",
            next="pass -o data.whitening=standardise, or a smaller size of images.",
        )
    fits = {"zca": _fit_zca, "zca_kornia": _fit_kornia, "zca_frepo": _fit_frepo}
    tensors = fits[kind](images, index, strength)
    keep_tensors(path, tensors, key)
    return Whitening(kind, tensors)


def _digest(kind: str, images: Tensor, index: Tensor | None, strength: float) -> str:
    shape = (_count(images, index), *images.shape[1:])
    digest = hashlib.sha256(f"{kind} {strength!r} {shape}".encode())
    for some in image_chunks(images, index):
        digest.update(some.contiguous().flatten().numpy().data)
    return digest.hexdigest()


def _count(images: Tensor, index: Tensor | None) -> int:
    return len(images if index is None else index)


def _plain(tensors: dict[str, Tensor]) -> dict[str, list[float]]:
    return {name: tensor.tolist() for name, tensor in tensors.items()}


def _fit_channels(images: Tensor, index: Tensor | None) -> dict[str, Tensor]:
    """Exact mean and standard deviation of each channel, from its 256 counts."""
    channels = range(images.shape[1])
    found = torch.zeros(len(channels), 256, dtype=torch.int64)
    for some in image_chunks(images, index):
        for c in channels:
            found[c] += torch.bincount(some[:, c].flatten(), minlength=256)
    counts = found.double()
    share = counts / counts.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ levels
    std = (share * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    # A constant channel becomes zero instead of 0/0.
    return {"mean": mean.float(), "std": torch.where(std > 0, std, 1.0).float()}


def _fit_zca(images: Tensor, index: Tensor | None, strength: float) -> dict[str, Tensor]:
    d = images[0].numel()
    covariance = torch.zeros(d, d, dtype=torch.float64)
    for some in image_chunks(images, index):
        covariance += _gram(normalise(unit_range(some, torch.float64).flatten(1)))
    covariance /= _count(images, index)
    mean_eigenvalue = float(covariance.trace()) / d
    # The covariance of constant images is zero.
    return {"matrix": _inverse_root(covariance, strength * (mean_eigenvalue or 1.0))}


def _fit_kornia(images: Tensor, index: Tensor | None, strength: float) -> dict[str, Tensor]:
    mean, squares = _mean_and_squares(images, index)
    covariance = squares / max(_count(images, index) - 1, 1)
    return {"matrix": _inverse_root(covariance, strength), "mean": mean.float()}


def _fit_frepo(images: Tensor, index: Tensor | None, strength: float) -> dict[str, Tensor]:
    std = _fit_channels(images, index)["std"]
    each = std.double().repeat_interleave(images[0, 0].numel())  # of every pixel
    mean, squares = _mean_and_squares(images, index)
    covariance = squares / _count(images, index) / each / each[:, None]
    mean_eigenvalue = float(covariance.trace()) / len(covariance)
    # The covariance of images that are all the same is zero.
    matrix = _inverse_root(covariance, strength * (mean_eigenvalue or 1.0))
    return {"matrix": matrix, "mean": mean.float(), "std": std}


def _mean_and_squares(images: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mean image (d,), and the sum (d, d) of products of what images differ from it."""
    d = images[0].numel()
    mean = torch.zeros(d, dtype=torch.float64)
    for some in image_chunks(images, index):
        mean += unit_range(some, torch.float64).flatten(1).sum(0)
    mean /= _count(images, index)
    squares = torch.zeros(d, d, dtype=torch.float64)
    for some in image_chunks(images, index):
        squares += _gram(unit_range(some, torch.float64).flatten(1) - mean)
    return mean, squares


def _inverse_root(covariance: Tensor, regulariser: float) -> Tensor:
    """(covariance + regulariser I)^(-1/2), float32."""
    values, vectors = torch.linalg.eigh(covariance)
    # Rounding can leave a zero eigenvalue slightly below zero.
    scale = (values.clamp_min(0) + regulariser).rsqrt()
    root: Tensor = (vectors * scale) @ vectors.T
    return root.float()


def _gram(flat: Tensor) -> Tensor:
    # NumPy recognises X^T X and computes one triangle of it, in half the time of PyTorch.
    numbers = flat.numpy()
    return torch.from_numpy(numbers.T @ numbers)

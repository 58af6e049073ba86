"""Whitening: what is done to pixels before any network sees them, and how to undo it.

Fitted on the training split alone, in float64, and applied to everything else. The matrices of
the two ZCA variants cost O(d^3) for d = C h w and are kept in the cache.

Letters: N images, C channels, h w their size, d = C h w.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from distill_core.cache import cache_dir
from distill_core.files import read_tensors, write_tensors
from registry import InputError, UnknownNameError

# The names of the tensors of each kind.
KINDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "standardise": ("mean", "std"),
    "zca": ("matrix",),
    "zca_kornia": ("matrix", "mean"),
}
CHUNK_NUMBERS = 2**21  # numbers in a temporary: 8 MB in float32, 16 MB in float64
HALF_STEP = 0.5 / 255  # an image of smaller norm, its mean removed, is constant


@dataclass(frozen=True, eq=False)
class Whitening:
    """A fitted whitening, applied to images and undone for pictures.

    - none: pixels from 0 to 1.
    - standardise: per channel, minus the mean, divided by the standard deviation.
    - zca: each image minus its own mean, divided by its own norm, times a matrix. The mean and
      norm of an image cannot be recovered, so `invert` stretches each image to 0..1.
    - zca_kornia: minus the mean image, times a matrix.

    Args:
        kind: a name of `KINDS`.
        values: float32 tensors: mean and std (C,) of standardise, matrix (d, d) symmetric and
            mean (d,) of the ZCA variants, with pixels in the order C, h, w.
    """

    kind: str
    values: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def from_tensors(kind: str, tensors: Mapping[str, Tensor]) -> Whitening:
        """Rebuild a whitening from its kind and what `tensors` returned.

        Raises:
            InputError: the kind is unknown, or the tensors are not those of the kind.
        """
        if kind not in KINDS or set(tensors) != set(KINDS[kind]):
            raise InputError(
                f"no whitening '{kind}' has the tensors: {', '.join(sorted(tensors)) or 'none'}.",
                expected="; ".join(f"{k}: {', '.join(v) or 'none'}" for k, v in KINDS.items()),
                next="restore the run directory from a copy, or distill again.",
            )
        return Whitening(kind, {name: tensor.float() for name, tensor in tensors.items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return all that must be stored; `from_tensors` takes it back."""
        return dict(self.values)

    def to(self, device: torch.device) -> Whitening:
        """Return the same whitening on a device, so that `apply` need not move it there."""
        return Whitening(self.kind, {name: t.to(device) for name, t in self.values.items()})

    def apply(self, images: Tensor) -> Tensor:
        """Whiten images.

        Args:
            images: (N, C, h, w), uint8 from 0 to 255 or floating point from 0 to 1.

        Returns:
            (N, C, h, w) float32 on the device of `images`.
        """
        result = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        values = {name: tensor.to(images.device) for name, tensor in self.values.items()}
        for chunk in chunks(images):
            result[chunk] = self._whiten(_unit(images[chunk], torch.float32), values)
        return result

    def invert(self, images: Tensor, *, in_range: bool = True) -> Tensor:
        """Make whitened images into pictures.

        Args:
            images: (N, C, h, w) floating point, whitened.
            in_range: bring values into the range from 0 to 1: clamped, except for zca, where
                each image is stretched to it. False leaves an affine map, the same for all.

        Returns:
            (N, C, h, w) float32 on the device of `images`.
        """
        result = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        values = {name: tensor.to(images.device) for name, tensor in self.values.items()}
        if "matrix" in values:
            values["inverse"] = self._inverse.to(images.device)
        for chunk in chunks(images):
            pictures = self._colour(images[chunk].float(), values)
            result[chunk] = self._bounded(pictures) if in_range else pictures
        return result

    def _whiten(self, images: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        if self.kind == "none":
            return images
        if self.kind == "standardise":
            return (images - _per_channel(values["mean"])) / _per_channel(values["std"])
        flat = images.flatten(1)
        flat = _normalise(flat) if self.kind == "zca" else flat - values["mean"]
        return (flat @ values["matrix"]).reshape(images.shape)

    def _colour(self, images: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        if self.kind == "none":
            return images
        if self.kind == "standardise":
            return images * _per_channel(values["std"]) + _per_channel(values["mean"])
        flat = images.flatten(1) @ values["inverse"]
        if self.kind == "zca_kornia":
            flat = flat + values["mean"]
        return flat.reshape(images.shape)

    def _bounded(self, pictures: Tensor) -> Tensor:
        if self.kind != "zca":
            return pictures.clamp(0, 1)
        low, high = pictures.amin((1, 2, 3), keepdim=True), pictures.amax((1, 2, 3), keepdim=True)
        return (pictures - low) / (high - low).clamp_min(torch.finfo(pictures.dtype).tiny)

    @cached_property
    def _inverse(self) -> Tensor:
        """The inverse matrix; the regulariser keeps it well conditioned."""
        inverse: Tensor = torch.linalg.inv(self.values["matrix"].double())
        return inverse.float()


def fit_whitening(kind: str, images: Tensor, *, strength: float) -> Whitening:
    """Fit a whitening, or read its matrix from the cache if it was fitted before.

    ZCA on d = C h w numbers per image takes O(N d^2 + d^3) time and 8 d^2 bytes for each of a
    few matrices: 25 s and 0.4 GB on one CPU core for CIFAR-10 (d = 3072), and by that law half an
    hour and 6 GB for Tiny ImageNet (d = 12288).

    Args:
        kind: "none", "standardise", "zca" or "zca_kornia".
        images: (N, C, h, w) uint8, the training split; N >= 1.
        strength: regulariser of ZCA; zca: in units of the mean eigenvalue of the covariance,
            zca_kornia: absolute, for pixels from 0 to 1.

    Raises:
        UnknownNameError: there is no such kind.
        EnvironmentFault: the cache cannot be written.

    Source: zca: RaT-BPTT's and PoDD's published code (covariance of normalised images, mean not
        removed). zca_kornia: kornia's `zca_mean` as MTT and TESLA call it.
    """
    if kind == "none":
        return Whitening(kind)
    if kind == "standardise":
        return Whitening(kind, _fit_channels(images))
    if kind not in KINDS:
        raise UnknownNameError("whitening", kind, known=KINDS, next="pass -o data.whitening=NAME.")
    path = _cached(kind, images, strength)
    try:
        tensors, _ = read_tensors(path)
        return Whitening.from_tensors(kind, tensors)
    except InputError:  # not there, or damaged: the same matrix can be made again
        tensors = _fit_zca(images, strength) if kind == "zca" else _fit_kornia(images, strength)
        write_tensors(path, tensors, {"whitening": kind, "strength": strength})
        return Whitening(kind, tensors)


def _cached(kind: str, images: Tensor, strength: float) -> Path:
    digest = hashlib.sha256(f"{kind} {strength!r} {tuple(images.shape)}".encode())
    digest.update(images.contiguous().flatten().numpy().data)
    return cache_dir() / "whitening" / f"{digest.hexdigest()}.safetensors"


def _fit_channels(images: Tensor) -> dict[str, Tensor]:
    """Exact mean and standard deviation of each channel, from its 256 counts."""
    counts = torch.stack(
        [torch.bincount(images[:, c].flatten(), minlength=256) for c in range(images.shape[1])]
    ).double()
    share = counts / counts.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ levels
    std = (share * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    # A constant channel becomes zero instead of 0/0.
    return {"mean": mean.float(), "std": torch.where(std > 0, std, 1.0).float()}


def _fit_zca(images: Tensor, strength: float) -> dict[str, Tensor]:
    d = images[0].numel()
    covariance = torch.zeros(d, d, dtype=torch.float64)
    for chunk in chunks(images):
        covariance += _gram(_normalise(_unit(images[chunk], torch.float64).flatten(1)))
    covariance /= len(images)
    mean_eigenvalue = float(covariance.trace()) / d
    # Images that are all constant have no covariance at all.
    return {"matrix": _inverse_root(covariance, strength * (mean_eigenvalue or 1.0))}


def _fit_kornia(images: Tensor, strength: float) -> dict[str, Tensor]:
    d = images[0].numel()
    mean = torch.zeros(d, dtype=torch.float64)
    for chunk in chunks(images):
        mean += _unit(images[chunk], torch.float64).flatten(1).sum(0)
    mean /= len(images)
    covariance = torch.zeros(d, d, dtype=torch.float64)
    for chunk in chunks(images):
        covariance += _gram(_unit(images[chunk], torch.float64).flatten(1) - mean)
    covariance /= max(len(images) - 1, 1)
    return {"matrix": _inverse_root(covariance, strength), "mean": mean.float()}


def _inverse_root(covariance: Tensor, regulariser: float) -> Tensor:
    """(covariance + regulariser I)^(-1/2), float32."""
    values, vectors = torch.linalg.eigh(covariance)
    # Rounding can leave a zero eigenvalue slightly below zero.
    scale = (values.clamp_min(0) + regulariser).rsqrt()
    root: Tensor = (vectors * scale) @ vectors.T
    return root.float()


def _gram(flat: Tensor) -> Tensor:
    # NumPy recognises X^T X and computes one triangle of it, in half of PyTorch's time.
    numbers = flat.numpy()
    return torch.from_numpy(numbers.T @ numbers)


def _normalise(flat: Tensor) -> Tensor:
    """Remove each row's own mean and divide by its own norm; constant rows become zero."""
    flat = flat - flat.mean(1, keepdim=True)
    norm = flat.norm(dim=1, keepdim=True)
    return torch.where(norm > HALF_STEP, flat / norm, 0.0)


def _unit(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Pixels from 0 to 1."""
    scale = 1 if images.is_floating_point() else 255
    return images.to(dtype) / scale


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def chunks(images: Tensor) -> Iterator[slice]:
    """Yield the pieces in which images (N, C, h, w) are worked on, to keep temporaries small."""
    size = max(1, CHUNK_NUMBERS // max(1, images[:1].numel()))
    for start in range(0, len(images), size):
        yield slice(start, start + size)

"""A fitted whitening: what is done to pixels before networks see them, and how to undo it.

`distill_core/data/whitening.py` fits it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from registry import InputError

# The tensors of each kind, by name.
KINDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "standardise": ("mean", "std"),
    "zca": ("matrix",),
    "zca_kornia": ("matrix", "mean"),
    "zca_frepo": ("matrix", "mean", "std"),
}
CHUNK_NUMBERS = 2**21  # numbers in a temporary: 8 MB in float32, 16 MB in float64
HALF_STEP = 0.5 / 255  # an image is constant if its norm without its mean is smaller


@dataclass(frozen=True, eq=False)
class Whitening:
    """A fitted whitening, applied to images and undone for pictures.

    - none: pixels from 0 to 1.
    - standardise: per channel, minus the mean, divided by the standard deviation.
    - zca: each image minus its own mean, divided by its own norm, times a matrix. The mean and
      norm of an image are lost, so `invert` stretches each image to 0..1.
    - zca_kornia: minus the mean image, times a matrix.
    - zca_frepo: minus the mean image, divided by each channel's standard deviation, times a matrix.

    Args:
        kind: a name of `KINDS`.
        values: float32 tensors: mean and std (C,) of standardise; matrix (d, d) symmetric, mean
            (d,) and std (C,) of the ZCA variants, with pixels in the order C, h, w.
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

    def unfit(self, image_shape: tuple[int, ...]) -> tuple[str, str] | None:
        """Say why it cannot be applied to images of a shape, and what would be right; None: it can.

        Args:
            image_shape: (C, h, w).
        """
        d = math.prod(image_shape)
        shapes = {"mean": (image_shape[0],), "std": (image_shape[0],), "matrix": (d, d)}
        if "matrix" in self.values:
            shapes["mean"] = (d,)
        for name, tensor in self.values.items():
            if tensor.shape != shapes[name]:
                what = f"the {name} of its whitening '{self.kind}' has shape {tuple(tensor.shape)}"
                return what, f"{shapes[name]}, for images {image_shape}"
            if not bool(tensor.isfinite().all()):
                return f"the {name} of its whitening is not finite", "finite numbers"
        if "std" in self.values and not bool((self.values["std"] > 0).all()):
            return "a standard deviation of its whitening is not above zero", "numbers above zero"
        return None

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store, for `from_tensors`."""
        return dict(self.values)

    def to(self, device: torch.device) -> Whitening:
        """Return the same whitening on a device, so that `apply` does not have to move it."""
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
            result[chunk] = self._whiten(unit_range(images[chunk], torch.float32), values)
        return result

    def invert(self, images: Tensor, *, in_range: bool = True) -> Tensor:
        """Make whitened images into pictures.

        Args:
            images: (N, C, h, w) floating point, whitened.
            in_range: bring values into the range from 0 to 1: by clamping, or for zca by
                stretching each image. False: the result is an affine map, the same for all images.

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
            return (images - _per_channel(values["mean"])).div_(_per_channel(values["std"]))
        flat = images.flatten(1)
        flat = normalise(flat) if self.kind == "zca" else flat - values["mean"]
        if "std" in values:
            flat = flat.reshape(images.shape).div_(_per_channel(values["std"])).flatten(1)
        return (flat @ values["matrix"]).reshape(images.shape)

    def _colour(self, images: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        if self.kind == "none":
            return images
        if self.kind == "standardise":
            return images * _per_channel(values["std"]) + _per_channel(values["mean"])
        flat = images.flatten(1) @ values["inverse"]
        if "std" in values:
            flat = (flat.reshape(images.shape) * _per_channel(values["std"])).flatten(1)
        if "mean" in values:
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
        inverse, trouble = torch.linalg.inv_ex(self.values["matrix"].double())
        if int(trouble) or not bool(inverse.isfinite().all()):
            raise InputError(
                f"the matrix of the whitening '{self.kind}' has no inverse.",
                expected="the matrix that was fitted to the data.",
                next="restore the run directory from a copy, or distill again.",
            )
        found: Tensor = inverse.float()
        return found


def chunks(images: Tensor) -> Iterator[slice]:
    """Yield slices of images (N, C, h, w) to process one by one, to keep temporaries small."""
    size = max(1, CHUNK_NUMBERS // max(1, images[:1].numel()))
    for start in range(0, len(images), size):
        yield slice(start, start + size)


def normalise(flat: Tensor) -> Tensor:
    """Remove each row's own mean and divide by its own norm; constant rows become zero."""
    flat = flat - flat.mean(1, keepdim=True)
    norm = flat.norm(dim=1, keepdim=True)
    return torch.where(norm > HALF_STEP, flat / norm, 0.0)


def unit_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return pixels from 0 to 1; bytes are divided by 255."""
    return images.to(dtype) / 1 if images.is_floating_point() else images.to(dtype).div_(255)


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]

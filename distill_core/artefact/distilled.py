"""A distilled dataset, as `distill_core.load` returns it: tensors, names, recipe, test transform.

`artefact.py` reads and checks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from distill_core.artefact.storage import Storage
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.streams import seeded
from distill_core.contracts.synthetic import Budget
from distill_core.contracts.whitening import Whitening
from distill_core.data.augment import Augmentation
from distill_core.data.picture_files import PictureLoader, readable, told
from distill_core.data.resize import MODES, Fit, fit_picture, fit_tensor, plain_picture
from distill_core.training.check_network import check_network
from distill_core.training.train import Network, train, training_batches
from registry import InputError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False)
class ImageTransform:
    """Turns any image into an input for networks trained on the distilled data.

    Scales (bilinear, antialiased, by the shorter side), crops the centre, or squashes, and whitens,
    as was done with the training data. Can be pickled, so data loaders may use it in workers.

    Attributes:
        image_shape: C, h, w of the result.
        whitening: as fitted on the real training data.
        fit: "crop" or "squash", as the training data were fitted.
    """

    image_shape: tuple[int, int, int]
    whitening: Whitening
    fit: Fit = "crop"

    def __call__(self, image: Image.Image | Tensor) -> Tensor:
        """Return a whitened float32 image (C, h, w), or (n, C, h, w) for a batch.

        Args:
            image: a PIL image of any mode and size, or a tensor (C, H, W) or (n, C, H, W), uint8
                from 0 to 255 or floating point from 0 to 1. torchvision's `ImageFolder` converts
                pictures to RGB before; use `Distilled.loader` with it.

        Warns:
            UserWarning: more than half of it is cut away, or it is 16-bit grey without light.

        Raises:
            InputError: it has another type, or its channels or values do not fit.
        """
        pixels = image if isinstance(image, Tensor) else self._from_picture(image)
        channels, h, w = self.image_shape
        if pixels.ndim not in (3, 4) or pixels.shape[-3] != channels or 0 in pixels.shape[-2:]:
            raise InputError(
                f"the image is a tensor of shape {tuple(pixels.shape)}.",
                expected=f"({channels}, H, W), or a batch (n, {channels}, H, W).",
                next="bring its channels to the front, or pass a PIL image.",
            )
        batch = _unit_range(pixels if pixels.ndim == 4 else pixels[None])
        if isinstance(image, Tensor) and self.fit == "crop":
            with told(stacklevel=2) as notes:
                notes.crop((batch.shape[-2], batch.shape[-1]), (h, w), "it")
        whitened = self.whitening.apply(fit_tensor(batch, (h, w), self.fit))
        return whitened if pixels.ndim == 4 else whitened[0]

    def _from_picture(self, image: Any) -> Tensor:
        from PIL import Image

        channels = self.image_shape[0]
        if not isinstance(image, Image.Image) or channels not in MODES:
            raise InputError(
                f"the image is a {type(image).__name__}.",
                expected=f"a tensor of {channels} channels"
                + (" or a PIL image." if channels in MODES else "."),
                next="convert it first, for example with PIL.Image.fromarray(array).",
            )
        with told(stacklevel=3) as notes, readable("the picture"):
            notes.see(image)
            plain = plain_picture(image)
            if self.fit == "crop":
                notes.crop((plain.height, plain.width), self.image_shape[1:], "it")
            return fit_picture(plain, self.image_shape, self.fit)


@dataclass(frozen=True, eq=False)
class Distilled:
    """A distilled dataset, ready to train on.

    Attributes:
        dataset: whitened images (n, C, h, w) float32 and soft labels (n, K) float32.
        class_names: K names, in label order.
        transform: must be applied to test images.
        recipe: how the algorithm trains networks on it.
        budget: what it stores, in pixels.
        storage: what it stores, in bytes.
        metadata: everything else that the file says about itself.
        path: the file.
        verified: a manifest.json beside it confirms its checksum.
        is_pixels: what is stored are float32 pixels, of no other type and not decoded.
    """

    dataset: TensorDataset
    class_names: tuple[str, ...]
    transform: ImageTransform
    recipe: Recipe
    budget: Budget
    storage: Storage
    metadata: dict[str, Any]
    path: Path
    verified: bool
    is_pixels: bool = True

    @property
    def images(self) -> Tensor:
        """Whitened images, (n, C, h, w) float32."""
        return self.dataset.tensors[0]

    @overload
    def loader(self, path: str | Path) -> Image.Image: ...

    @overload
    def loader(
        self, path: None = None, *, batch_size: int | None = None, seed: int = 0
    ) -> TrainingBatches: ...

    def loader(
        self, path: str | Path | None = None, *, batch_size: int | None = None, seed: int = 0
    ) -> Image.Image | TrainingBatches:
        """Return the batches that the recipe trains on; or read one picture file.

        `for images, labels in distilled.loader():` has a batch for each step of the recipe, drawn
        and augmented as `train` does it, on the CPU. Again, it has the same ones.

        With a path it reads a picture as the training data were read, for torchvision's
        `ImageFolder(folder, loader=distilled.loader, transform=distilled.transform)`, whose own
        loader clips 16-bit grey to white and drops transparency.

        Args:
            path: a picture file.
            batch_size: images of a batch; default: the recipe's.
            seed: seed of batches and augmentation.

        Raises:
            InputError: the batch size is not positive, or the picture cannot be read.
        """
        if path is not None:
            return PictureLoader(self.transform.image_shape, self.transform.fit)(path)
        whole = isinstance(batch_size, int) and not isinstance(batch_size, bool)
        if batch_size is not None and (not whole or batch_size < 1):
            raise InputError(
                f"batch_size = {batch_size!r} is not valid.",
                expected="a positive whole number.",
                next=f"leave it out for the recipe's {self.recipe.batch_size}.",
            )
        changed = {} if batch_size is None else {"batch_size": batch_size}
        return TrainingBatches(self, self.recipe.model_copy(update=changed), seed)

    @property
    def labels(self) -> Tensor:
        """Soft labels, (n, K) float32."""
        return self.dataset.tensors[1]

    def train(self, network: Network, *, seed: int = 0) -> Network:
        """Train any network with K outputs by the recipe, in place, on its device.

        It is put into training mode, if it is not. In one that is, modules that you set to
        evaluation mode stay so, as batch normalisation that is to be frozen.

        Args:
            network: takes (n, C, h, w), gives logits (n, K).
            seed: seed of batches and augmentation.

        Raises:
            InputError: it does not take these images, gives no logits of these classes, or
                diverges: its parameters are not finite in the end.
        """
        check_network(network, self.images, len(self.class_names))
        device = next(network.parameters()).device
        train(
            network,
            self.images.to(device),
            self.labels.to(device),
            self.recipe,
            augmentation=self._augmentation(),
            generator=seeded(seed, "train"),
        )
        if not all(bool(each.isfinite().all()) for each in network.parameters()):
            raise InputError(
                "the network diverged: its parameters are not finite after the training.",
                expected=f"a network that can be trained by {self.recipe.optimizer} with a "
                f"learning rate of {self.recipe.lr:g}, as the recipe says.",
                next="add normalisation to it, or train it with a smaller rate in a loop of your "
                "own: distilled.loader() has the batches.",
            )
        return network

    def _augmentation(self) -> Augmentation:
        return Augmentation.named(self.recipe.augment, tuple(self.metadata["augmentations"]))

    def __repr__(self) -> str:
        channels, h, w = self.transform.image_shape
        names = ", ".join(self.class_names[:5]) + (", ..." if len(self.class_names) > 5 else "")
        return (
            f"Distilled({self.path})\n"
            f"  {len(self.dataset)} images {channels}x{h}x{w}, whitening "
            f"'{self.transform.whitening.kind}', soft labels of {len(self.class_names)} classes "
            f"({names})\n"
            f"  budget: {self.budget}\n"
            f"  storage: {self.storage}\n"
            f"  recipe: {self.recipe.described(len(self.dataset))}\n"
            f"  checksum: {'verified' if self.verified else 'no manifest.json to check against'}"
        )


@dataclass(frozen=True, eq=False)
class TrainingBatches:
    """The batches of a training by a recipe: images (b, C, h, w) and soft labels (b, K).

    Attributes:
        distilled: what they are drawn from.
        recipe: batch size, steps and augmentation.
        seed: seed of the draws.
    """

    distilled: Distilled
    recipe: Recipe
    seed: int

    def __len__(self) -> int:
        return self.recipe.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return training_batches(
            self.distilled.images,
            self.distilled.labels,
            self.recipe,
            augmentation=self.distilled._augmentation(),
            generator=seeded(self.seed, "train"),
        )


def _unit_range(pixels: Tensor) -> Tensor:
    """Floating point from 0 to 1."""
    if pixels.dtype == torch.uint8:
        return pixels.float() / 255
    if not pixels.is_floating_point():
        raise InputError(
            f"the image has type {pixels.dtype}.",
            expected="torch.uint8 from 0 to 255, or floating point from 0 to 1.",
            next="convert it.",
        )
    if not len(pixels):  # a batch of none has no least value
        return pixels.float()
    # Rounding of other tools' resizing may leave the range by a little; NaN is in none.
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -0.01 and high <= 1.01):
        raise InputError(
            f"the image has values from {low:g} to {high:g}.",
            expected="floating point from 0 to 1; the transform whitens by itself.",
            next="divide by 255 where values are bytes, and leave other normalisation out.",
        )
    return pixels.float().clamp(0, 1)

"""The small classics as torchvision keeps them: CIFAR, MNIST, Fashion-MNIST, SVHN."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from distill_core.builtin.datasets.digits import DIGITS, WRITING
from distill_core.builtin.datasets.options import TorchvisionOptions
from distill_core.plugin import (
    AUGMENTATIONS,
    DataSpec,
    EnvironmentFault,
    InputError,
    RawData,
    at_home,
    cache_dir,
    check_torchvision,
)

OWN_ADVICE = " You can use download=True to download it"  # of torchvision, for its own users


@dataclass(frozen=True)
class TorchvisionSet:
    """One of torchvision's datasets, with its own training and test part.

    Attributes:
        name: its name here.
        source: its name in `torchvision.datasets`.
        augmentations: operations that keep its labels.
        class_names: names that are better than torchvision's, or none.
        num_classes: how many classes there are.
        image_shape: C, h, w.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    augmentations: ClassVar[tuple[str, ...]] = AUGMENTATIONS
    class_names: ClassVar[tuple[str, ...]] = ()
    num_classes: ClassVar[int] = 10
    image_shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)

    options: TorchvisionOptions

    def outline(self) -> DataSpec:
        """Return what is known before loading; classes may have no names."""
        names = self.class_names or tuple(f"class {k}" for k in range(self.num_classes))
        return DataSpec(self.name, names, self.image_shape, self.augmentations)

    def load(self) -> RawData:
        """Read the images, after a download if the options ask for one.

        Raises:
            InputError: the files are not there, or damaged.
            EnvironmentFault: the download failed, or torchvision cannot be imported.
        """
        check_torchvision()  # its own fault would pass for one of the files
        train, test = self._part(train=True), self._part(train=False)
        train_images = _channels_first(train.data)
        c, h, w = train_images.shape[1:]
        return RawData(
            spec=DataSpec(
                self.name,
                self.class_names or tuple(train.classes),
                (c, h, w),
                self.augmentations,
            ),
            train_images=train_images,
            train_labels=self._labels(train),
            test_images=_channels_first(test.data),
            test_labels=self._labels(test),
        )

    def _part(self, *, train: bool) -> Any:
        root = at_home(self.options.root or cache_dir() / "data", "dataset.root")
        try:
            return self._open(root, self._which(train))
        except Exception as error:  # torchvision raises whatever its readers and urllib raise
            reason = str(error).rstrip(".").removesuffix(OWN_ADVICE).rstrip(".")
            if self.options.download:
                raise EnvironmentFault(
                    f"{self.name} could not be downloaded to {root}: {reason}.",
                    expected="a network connection and a folder that can be written.",
                    next=f"put the files there by other means, as torchvision.datasets."
                    f"{self.source} expects them.",
                ) from error
            raise InputError(
                f"{self.name} is not in {root}, or is damaged: {reason}.",
                expected=f"the files as torchvision.datasets.{self.source} keeps them.",
                next="download it with -o dataset.download=true, or say where it is with "
                "-o dataset.root=FOLDER; pictures, a folder or .zip with a folder of each class, "
                "are read by --dataset imagefolder -o dataset.path=PATH.",
            ) from None

    def _open(self, root: Path, which: dict[str, Any]) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.source)(str(root), download=self.options.download, **which)

    def _which(self, train: bool) -> dict[str, Any]:
        return {"train": train}

    def _labels(self, part: Any) -> Tensor:
        return torch.as_tensor(part.targets, dtype=torch.int64)


class Cifar10(TorchvisionSet):
    """CIFAR-10: 50,000 and 10,000 photos, 3x32x32, 10 classes.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    name = "cifar10"
    source = "CIFAR10"


class Cifar100(TorchvisionSet):
    """CIFAR-100: 50,000 and 10,000 photos, 3x32x32, 100 classes.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
    """

    name = "cifar100"
    source = "CIFAR100"
    num_classes = 100


class Mnist(TorchvisionSet):
    """MNIST: 60,000 and 10,000 handwritten digits, 1x28x28.

    Source: LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition.
    """

    name = "mnist"
    source = "MNIST"
    image_shape = (1, 28, 28)
    augmentations = WRITING
    class_names = DIGITS


class FashionMnist(TorchvisionSet):
    """Fashion-MNIST: 60,000 and 10,000 pieces of clothing, 1x28x28, 10 classes.

    Source: Xiao et al. 2017 (arXiv:1708.07747).
    """

    name = "fashion_mnist"
    source = "FashionMNIST"
    image_shape = (1, 28, 28)


class Svhn(TorchvisionSet):
    """Street View House Numbers: 73,257 and 26,032 photos of digits, 3x32x32.

    Source: Netzer et al. 2011, Reading Digits in Natural Images with Unsupervised Feature Learning.
    """

    name = "svhn"
    source = "SVHN"
    augmentations = WRITING
    class_names = DIGITS

    def _which(self, train: bool) -> dict[str, Any]:
        return {"split": "train" if train else "test"}

    def _labels(self, part: Any) -> Tensor:
        return torch.as_tensor(part.labels, dtype=torch.int64)


def _channels_first(data: Any) -> Tensor:
    """(N, h, w), (N, h, w, 3) or (N, 3, h, w) as (N, C, h, w)."""
    images = torch.as_tensor(data)
    if images.ndim == 3:
        return images[:, None]
    return images.permute(0, 3, 1, 2).contiguous() if images.shape[-1] == 3 else images

"""A user's own images, in a folder or a .zip, with one folder for each class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill_core.builtin.datasets.class_folders import Classes, find_parts, unwrapped
from distill_core.builtin.datasets.options import ImageFolderOptions
from distill_core.builtin.datasets.pictures import read_pictures
from distill_core.builtin.datasets.tree import open_tree
from distill_core.plugin import DataSpec, PictureNotes, RawData, held_out, seeded


@dataclass(frozen=True)
class ImageFolder:
    """Images in class folders; classes and files are in the order of their names."""

    options: ImageFolderOptions

    def load(self) -> RawData:
        """Read all images.

        Raises:
            InputError: the path, a class folder or an image cannot be used; it is named.
        """
        notes = PictureNotes()
        with open_tree(self.options.path, next="correct -o dataset.path=PATH.") as opened:
            tree = unwrapped(opened)
            parts, left_out = find_parts(tree)
            classes = tuple(parts[0])
            files = [file for part in parts for found in part.values() for file in found]
            size, colour = self.options.size, self.options.colour
            images = read_pictures(tree, files, size=size, colour=colour, notes=notes)
        index = {name: label for label, name in enumerate(classes)}
        labels = torch.tensor(
            [index[name] for part in parts for name, found in part.items() for _ in found]
        )
        testing = self._testing(labels, parts)
        c, h, w = images.shape[1:]
        return RawData(
            spec=DataSpec("imagefolder", classes, (c, h, w), self.options.augmentations),
            train_images=images[~testing],
            train_labels=labels[~testing],
            test_images=images[testing],
            test_labels=labels[testing],
            notes=(*left_out, *notes.lines()),
        )

    def _testing(self, labels: Tensor, parts: list[Classes]) -> Tensor:
        """(N,) bool: which images are for testing; a fixed choice if the folders do not say."""
        if len(parts) == 1:
            generator = seeded(0, "imagefolder split")
            return held_out(labels, self.options.test_fraction, generator=generator, at_least=1)
        num_train = sum(len(found) for found in parts[0].values())
        return torch.arange(len(labels)) >= num_train

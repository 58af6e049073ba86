"""A user's own images, in a folder or a .zip, with one folder for each class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill_core.builtin.datasets.class_folders import Classes, find_parts, unwrapped
from distill_core.builtin.datasets.options import ImageFolderOptions
from distill_core.builtin.datasets.pictures import READER, read_pictures, usual_size
from distill_core.builtin.datasets.tree import files_to_read, open_tree
from distill_core.plugin import (
    DataSpec,
    PictureNotes,
    RawData,
    Room,
    Sources,
    held_out,
    seeded,
)

NEXT = "correct -o dataset.path=PATH."


@dataclass(frozen=True)
class ImageFolder:
    """Images in class folders; classes and files are in the order of their names."""

    options: ImageFolderOptions

    def load(self) -> RawData:
        """Read all images.

        Raises:
            InputError: the path, a class folder or an image cannot be used; it is named.
        """
        return self.load_into(Room())

    def sources(self) -> Sources:
        """Return the files of the folder, or the archive."""
        how = self.options.model_dump_json(exclude={"path"})
        return Sources(files_to_read(self.options.path, next=NEXT), f"{READER} {how}")

    def load_into(self, room: Room) -> RawData:
        """Read all images into memory that is given."""
        notes = PictureNotes()
        with open_tree(self.options.path, next=NEXT) as opened:
            tree = unwrapped(opened)
            parts, left_out = find_parts(tree, self.options.folders)
            classes = tuple(parts[0])
            files = [file for part in parts for found in part.values() for file in found]
            index = {name: label for label, name in enumerate(classes)}
            labels = torch.tensor(
                [index[name] for part in parts for name, found in part.items() for _ in found]
            )
            testing = self._testing(labels, parts)
            split = [[files[k] for k in which.nonzero()] for which in (~testing, testing)]
            train_images, test_images = read_pictures(
                tree,
                split,
                size=self.options.size or usual_size(tree, files[0]),
                colour=self.options.colour,
                fit=self.options.fit,
                notes=notes,
                room=room,
            )
        c, h, w = train_images.shape[1:]
        return RawData(
            spec=DataSpec(
                "imagefolder", classes, (c, h, w), self.options.augmentations, self.options.fit
            ),
            train_images=train_images,
            train_labels=labels[~testing],
            test_images=test_images,
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

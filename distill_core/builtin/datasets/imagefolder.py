"""A user's own images, in a folder or a .zip, with one folder for each class."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from distill_core.builtin.datasets.class_folders import find_parts, unwrapped
from distill_core.builtin.datasets.labelled import NEXT, load_labelled
from distill_core.builtin.datasets.open_tree import files_to_read, open_tree
from distill_core.builtin.datasets.options import ImageFolderOptions
from distill_core.builtin.datasets.pictures import READER
from distill_core.plugin import RawData, Room, Sources


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
        with open_tree(self.options.path, next=NEXT) as opened:
            tree = unwrapped(opened)
            parts, left_out = find_parts(tree, self.options.folders)
            classes = tuple(parts[0])
            index = {name: label for label, name in enumerate(classes)}
            return load_labelled(
                "imagefolder",
                tree,
                [[file for files in part.values() for file in files] for part in parts],
                torch.tensor(
                    [index[name] for part in parts for name, files in part.items() for _ in files]
                ),
                classes,
                options=self.options,
                left_out=left_out,
                room=room,
            )

"""Datasets that come as a folder, or a .zip of it: picture files, and lists that name them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch

from distill_core.builtin.datasets.open_tree import files_to_read, open_tree
from distill_core.builtin.datasets.options import Cub200Options, Fit, TinyImagenetOptions
from distill_core.builtin.datasets.pictures import READER, read_pictures
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import DataSpec, PictureNotes, RawData, Room, Sources, cache_dir

Labelled = list[tuple[str, int]]  # picture files and their classes


class Lists(NamedTuple):
    """What the lists of an archive say: names of classes, and the files of both parts."""

    names: tuple[str, ...]
    train: Labelled
    test: Labelled


@dataclass(frozen=True)
class Archive(ABC):
    """A dataset of 200 classes, read from its archive.

    Attributes:
        name: its name here.
        folder: the name of its folder.
        marker: a file at the top of that folder.
        augmentations: operations that keep its labels.
        advice: what to do if it is not there, or damaged.
    """

    name: ClassVar[str]
    folder: ClassVar[str]
    marker: ClassVar[str]
    augmentations: ClassVar[tuple[str, ...]]
    advice: ClassVar[str]

    options: Cub200Options | TinyImagenetOptions

    @abstractmethod
    def lists(self, tree: FileTree) -> Lists:
        """Read the lists.

        Raises:
            InputError: a list is missing or damaged; it is named.
        """

    @property
    def fit(self) -> Fit:
        """How photos become square."""
        return "crop"

    def outline(self) -> DataSpec:
        """Return what is known before loading; classes have no names."""
        return self._spec(tuple(f"class {k}" for k in range(200)))

    def load(self) -> RawData:
        """Read all images that the lists name.

        Raises:
            InputError: the folder, a list or an image is missing or damaged; it is named.
        """
        return self.load_into(Room())

    def sources(self) -> Sources:
        """Return the files of the folder, or the archive."""
        how = f"{READER} {self.options.size} {self.fit}"
        return Sources(files_to_read(self._root(), next=self.advice), how)

    def load_into(self, room: Room) -> RawData:
        """Read all images into memory that is given."""
        notes = PictureNotes()
        with open_tree(self._root(), next=self.advice) as opened:
            tree = opened.holding(self.marker, next=self.advice)
            names, *parts = self.lists(tree)
            train_images, test_images = read_pictures(
                tree,
                [[file for file, _ in part] for part in parts],
                size=self.options.size,
                colour="rgb",
                fit=self.fit,
                notes=notes,
                room=room,
            )
        train_labels, test_labels = (torch.tensor([label for _, label in part]) for part in parts)
        return RawData(
            spec=self._spec(names),
            train_images=train_images,
            train_labels=train_labels,
            test_images=test_images,
            test_labels=test_labels,
            notes=notes.lines(),
        )

    def _spec(self, names: tuple[str, ...]) -> DataSpec:
        shape = (3, self.options.size, self.options.size)
        return DataSpec(self.name, names, shape, self.augmentations, self.fit)

    def _root(self) -> Path:
        if self.options.root:
            return self.options.root
        folder = cache_dir() / "data" / self.folder
        archive = folder.with_name(f"{self.folder}.zip")
        return archive if archive.exists() and not folder.exists() else folder

"""A user's own images, in a folder or a .zip, with one folder for each class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill_core.builtin.datasets.options import ImageFolderOptions
from distill_core.builtin.datasets.pictures import is_picture, read_pictures
from distill_core.builtin.datasets.tree import FileTree, open_tree
from distill_core.plugin import (
    DataSpec,
    InputError,
    RawData,
    check_class_names,
    held_out,
    seeded,
)

LAYOUT = "train/CLASS/* with test/CLASS/* or val/CLASS/*, or only CLASS/*, of image files."
ROLES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}
Classes = dict[str, list[str]]  # image files by class


@dataclass(frozen=True)
class ImageFolder:
    """Images in class folders; classes and files are in the order of their names."""

    options: ImageFolderOptions

    def load(self) -> RawData:
        """Read all images.

        Raises:
            InputError: the path, a class folder or an image cannot be used; it is named.
        """
        with open_tree(self.options.path, next="correct -o dataset.path=PATH.") as opened:
            tree = _unwrapped(opened)
            parts = _parts(tree)
            classes = tuple(parts[0])
            files = [file for part in parts for found in part.values() for file in found]
            images = read_pictures(tree, files, size=self.options.size, colour=self.options.colour)
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
        )

    def _testing(self, labels: Tensor, parts: list[Classes]) -> Tensor:
        """(N,) bool: which images are for testing; a fixed choice if the folders do not say."""
        if len(parts) == 1:
            generator = seeded(0, "imagefolder split")
            return held_out(labels, self.options.test_fraction, generator=generator, at_least=1)
        num_train = sum(len(found) for found in parts[0].values())
        return torch.arange(len(labels)) >= num_train


def _unwrapped(tree: FileTree) -> FileTree:
    """The tree without the folders around it that hold only one other folder."""
    while len(folders := tree.top_folders()) == 1:
        tree = tree.inside(folders[0])
    return tree


def _parts(tree: FileTree) -> list[Classes]:
    """Files by class, of the training and the test part, or of the one part that there is."""
    folders = tree.top_folders()
    roles = {ROLES[name.lower()]: name for name in folders if name.lower() in ROLES}
    if not roles:
        return [_classes(tree, "")]
    train, test = roles.get("train"), roles.get("test") or roles.get("val")
    if not train or not test:
        raise InputError(
            f"{tree.path} has no folder {'test or val' if train else 'train'}, "
            f"but has: {', '.join(folders)}.",
            expected=LAYOUT,
            next="add the folder, or point -o dataset.path to the folder of the classes.",
        )
    parts = [_classes(tree, f"{train}/"), _classes(tree, f"{test}/")]
    unknown = sorted(set(parts[1]) - set(parts[0]))
    if unknown:
        raise InputError(
            f"{tree.where(f'{test}/{unknown[0]}')} is a class that {tree.where(train)} lacks.",
            expected="every class of the test part in the training part.",
            next="add training images of it, or remove the folder.",
        )
    return parts


def _classes(tree: FileTree, start: str) -> Classes:
    """Image files of each class folder directly below `start`, which ends with a slash."""
    below = tree.inside(start.rstrip("/")) if start else tree
    found: Classes = {name: [] for name in below.top_folders()}
    for file in below.files:
        name, slash, _ = file.partition("/")
        if slash and is_picture(file):
            found[name].append(start + file)
    if len(found) < 2:
        raise InputError(
            f"{below.path} has {len(found)} class folders.",
            expected=f"at least two, in the layout {LAYOUT}",
            next="check the path with -o dataset.path=..., or sort the images into folders.",
        )
    check_class_names(list(found), str(below.path))
    empty = [name for name, files in found.items() if not files]
    if empty:
        raise InputError(
            f"the class folder {below.where(empty[0])} has no images.",
            expected="at least one image file in every class folder.",
            next="add images or remove the folder.",
        )
    return found

"""CUB-200-2011: photos of 200 species of birds, from the standard folder."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from distill_core.builtin.datasets.options import CUB_FOLDER as FOLDER
from distill_core.builtin.datasets.options import Cub200Options
from distill_core.builtin.datasets.pictures import read_pictures
from distill_core.builtin.datasets.tree import FileTree, open_tree
from distill_core.cache import cache_dir
from distill_core.plugin import DataSpec, InputError, RawData

NEXT = (
    f"get {FOLDER}.tgz from https://www.vision.caltech.edu/datasets/cub_200_2011/, unpack it, and "
    f"say where it is with -o dataset.root=.../{FOLDER}."
)


@dataclass(frozen=True)
class Cub200:
    """5,994 and 5,794 photos of birds, scaled down, the centre cut out; 200 classes.

    Colour changes do not keep its labels: plumage tells species apart.

    Source: Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011.
    """

    options: Cub200Options

    def outline(self) -> DataSpec:
        """Return what is known before loading; classes have no names."""
        return self._spec(tuple(f"class {k}" for k in range(200)))

    def load(self) -> RawData:
        """Read the images that the lists of the dataset name.

        Raises:
            InputError: the folder, a list or an image is missing or damaged; it is named.
        """
        root = self.options.root or cache_dir() / "data" / FOLDER
        with open_tree(root, next=NEXT) as opened:
            tree = opened.holding("images.txt", next=NEXT)
            classes = _table(tree, "classes.txt")
            files = _table(tree, "images.txt")
            label_of = _table(tree, "image_class_labels.txt", keys=set(files))
            is_train = _table(tree, "train_test_split.txt", keys=set(files))
            paths = [f"images/{path}" for path in files.values()]
            images = read_pictures(tree, paths, size=self.options.size, colour="rgb")
            index = {number: label for label, number in enumerate(classes)}
            labels = torch.tensor([_label(tree, index, label_of[key]) for key in files])
        train = torch.tensor([is_train[key] == "1" for key in files])
        names = tuple(name.partition(".")[2] or name for name in classes.values())
        return RawData(
            spec=self._spec(names),
            train_images=images[train],
            train_labels=labels[train],
            test_images=images[~train],
            test_labels=labels[~train],
        )

    def _spec(self, names: tuple[str, ...]) -> DataSpec:
        shape = (3, self.options.size, self.options.size)
        return DataSpec("cub200", names, shape, ("flip", "rotate", "scale", "crop", "cutout"))


def _table(tree: FileTree, file: str, keys: set[str] | None = None) -> dict[str, str]:
    """Lines "key value", in their order; `keys` are those that must be there."""
    rows = [line.split(maxsplit=1) for line in tree.text(file)]
    short = [number for number, row in enumerate(rows) if len(row) != 2]
    table = {row[0]: row[1].strip() for row in rows if len(row) == 2}
    if short or not table or (keys is not None and not keys <= set(table)):
        line = f" (line {short[0] + 1})" if short else ""
        raise InputError(
            f"{tree.where(file)}{line} is not as it should be.",
            expected="a number and a value on every line, one line for each image or class.",
            next=NEXT,
        )
    return table


def _label(tree: FileTree, index: dict[str, int], number: str) -> int:
    if number not in index:
        raise InputError(
            f"{tree.where('image_class_labels.txt')} has class {number}.",
            expected="a class of classes.txt.",
            next=NEXT,
        )
    return index[number]

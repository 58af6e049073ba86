"""CUB-200-2011: photos of 200 species of birds, from the standard folder."""

from __future__ import annotations

from distill_core.builtin.datasets.archive import Archive, Lists
from distill_core.builtin.datasets.options import CUB_FOLDER as FOLDER
from distill_core.builtin.datasets.options import Cub200Options, Fit
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import InputError

NEXT = (
    f"get {FOLDER}.tgz from https://www.vision.caltech.edu/datasets/cub_200_2011/, unpack it, and "
    f"say where it is with -o dataset.root=.../{FOLDER}."
)


class Cub200(Archive):
    """5,994 and 5,794 photos of birds, scaled down; 200 classes.

    Photos are squashed to a square, as in PoDD's published code, or their centre is cut out. Colour
    changes do not keep its labels: plumage tells species apart.

    Source: Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011.
    """

    name = "cub200"
    folder = FOLDER
    marker = "images.txt"
    augmentations = ("flip", "rotate", "scale", "crop", "cutout")
    advice = NEXT

    options: Cub200Options

    @property
    def fit(self) -> Fit:
        """How photos become square."""
        return self.options.fit

    def lists(self, tree: FileTree) -> Lists:
        """Read classes, images, their classes, and which of them are for training."""
        classes = _table(tree, "classes.txt")
        files = _table(tree, "images.txt")
        label_of = _table(tree, "image_class_labels.txt", keys=set(files))
        is_train = _table(tree, "train_test_split.txt", keys=set(files))
        index = {number: label for label, number in enumerate(classes)}
        pairs = [
            (f"images/{path}", _label(tree, index, label_of[key]), is_train[key] == "1")
            for key, path in files.items()
        ]
        return Lists(
            names=tuple(name.partition(".")[2] or name for name in classes.values()),
            train=[(file, label) for file, label, training in pairs if training],
            test=[(file, label) for file, label, training in pairs if not training],
        )


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

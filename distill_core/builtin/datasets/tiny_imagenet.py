"""Tiny ImageNet: 200 classes of photos at 64x64, from the standard folder or its .zip."""

from __future__ import annotations

from distill_core.builtin.datasets.archive import Archive, Labelled, Lists
from distill_core.builtin.datasets.options import TINY_FOLDER as FOLDER
from distill_core.builtin.datasets.pictures import is_picture
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import AUGMENTATIONS, InputError

NEXT = (
    f"get http://cs231n.stanford.edu/{FOLDER}.zip and say where it is with "
    f"-o dataset.root=.../{FOLDER}.zip; it need not be unpacked."
)


class TinyImagenet(Archive):
    """100,000 training photos; the 10,000 of the validation part are the test set.

    Classes are in the order of their WordNet numbers, named by the first of their words.

    Source: Le and Yang 2015, Tiny ImageNet Visual Recognition Challenge.
    """

    name = "tiny_imagenet"
    folder = FOLDER
    marker = "wnids.txt"
    augmentations = AUGMENTATIONS
    advice = NEXT

    def lists(self, tree: FileTree) -> Lists:
        """Read the classes and their words, and find the images of both parts."""
        wnids = sorted(line.strip() for line in tree.text("wnids.txt"))
        index = {wnid: label for label, wnid in enumerate(wnids)}
        train, test = _train(tree, index), _validation(tree, index)
        return Lists(_names(tree, wnids), train, test)


def _train(tree: FileTree, index: dict[str, int]) -> Labelled:
    """Files train/WNID/images/* and their labels."""
    pairs = []
    for file in tree.files:
        part, _, rest = file.partition("/")
        wnid = rest.partition("/")[0]
        if part == "train" and wnid in index and is_picture(file):
            pairs.append((file, index[wnid]))
    without = sorted(set(index) - {file.split("/")[1] for file, _ in pairs})
    if without:
        raise InputError(
            f"the class folder {tree.where(f'train/{without[0]}')} has no images.",
            expected="images of every class of wnids.txt.",
            next=NEXT,
        )
    return pairs


def _validation(tree: FileTree, index: dict[str, int]) -> Labelled:
    """Files val/images/* and their labels, which val_annotations.txt gives."""
    file, pairs = "val/val_annotations.txt", []
    for number, line in enumerate(tree.text(file), start=1):
        columns = line.split("\t")
        if len(columns) < 2 or columns[1] not in index:
            raise InputError(
                f"{tree.where(file)} (line {number}) is not as it should be.",
                expected="an image and a class of wnids.txt, separated by a tab.",
                next=NEXT,
            )
        pairs.append((f"val/images/{columns[0]}", index[columns[1]]))
    return pairs


def _names(tree: FileTree, wnids: list[str]) -> tuple[str, ...]:
    words = dict(line.split("\t", 1) for line in tree.text("words.txt") if "\t" in line)
    unknown = [wnid for wnid in wnids if wnid not in words]
    if unknown:
        raise InputError(
            f"{tree.where('words.txt')} does not name {unknown[0]}.",
            expected="the words of every class of wnids.txt.",
            next=NEXT,
        )
    return tuple(words[wnid].split(",")[0].strip() for wnid in wnids)

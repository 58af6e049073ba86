"""Pictures and their classes as raw data: numbers of classes, what is for testing, the pixels."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from distill_core.builtin.datasets.open_tree import files_to_read
from distill_core.builtin.datasets.options import ImageFolderOptions, ShardOptions
from distill_core.builtin.datasets.pictures import READER, read_pictures, usual_size
from distill_core.builtin.datasets.plain_files import read_plain
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import (
    DataSpec,
    InputError,
    PictureNotes,
    RawData,
    Room,
    Sources,
    at_home,
    check_class_names,
    held_out,
    seeded,
    shown,
)

NEXT = "correct -o dataset.path=PATH."
MOST_NUMBERED = 10_000  # classes that get a name each because a label has that number
Value = int | str | None  # a class by its number or name; None: it is not known


class Part(NamedTuple):
    """The training or the test part: paths of N images, and their N classes."""

    files: Sequence[str]
    values: Sequence[Value]


def shard_sources(options: ShardOptions) -> Sources:
    """Return the files of a folder of shards or tables, and the list of class names."""
    files = dict(files_to_read(options.path, next=NEXT))
    if options.names:
        files["list of names"] = at_home(options.names, "the list of class names")
    how = options.model_dump_json(exclude={"path", "names"})
    return Sources(files, f"{READER} {how}")


def load_labelled(
    name: str,
    tree: FileTree,
    parts: Sequence[Sequence[str]],
    labels: Tensor,
    classes: tuple[str, ...],
    *,
    options: ImageFolderOptions | ShardOptions,
    left_out: Sequence[str] = (),
    room: Room,
) -> RawData:
    """Read the images of a training and a test part, or of one part that is divided here.

    Args:
        name: of the dataset; the division depends on it alone.
        tree: where images are read.
        parts: paths of images, of training and test part or of the one part.
        labels: (N,) int64 of all images.
        classes: K names.
        options: size, fit, colour, the part for testing and what keeps the labels.
        left_out: sentences about what is not read.
        room: gives the memory of the images.

    Raises:
        InputError: an image cannot be used; it is named.
    """
    notes = PictureNotes()
    files = [file for part in parts for file in part]
    testing = torch.arange(len(labels)) >= len(parts[0])
    if len(parts) == 1:
        generator = seeded(0, f"{name} split")
        testing = held_out(labels, options.test_fraction, generator=generator, at_least=1)
    train_images, test_images = read_pictures(
        tree,
        [[files[k] for k in which.nonzero()] for which in (~testing, testing)],
        size=options.size or usual_size(tree, files[0]),
        colour=options.colour,
        fit=options.fit,
        notes=notes,
        room=room,
    )
    c, h, w = train_images.shape[1:]
    return RawData(
        spec=DataSpec(name, classes, (c, h, w), options.augmentations, options.fit),
        train_images=train_images,
        train_labels=labels[~testing],
        test_images=test_images,
        test_labels=labels[testing],
        notes=(*left_out, *notes.lines()),
    )


def numbered(
    parts: Sequence[Part], names: Sequence[str] | None, tree: FileTree
) -> tuple[tuple[str, ...], Tensor]:
    """Return the names of the classes, and the class number of every image: (N,) int64.

    Classes by number without names are called by their numbers; classes by name without a list
    are those of the first part, in the order of their names. Names that look the same, with accents
    of their own or not, are one.

    Args:
        parts: training and test part, or the one part.
        names: of all classes, in their order; None: not known.
        tree: names images in errors.

    Raises:
        InputError: an image has no class, or one that there is not; numbers and names are mixed.
    """
    parts = [Part(part.files, [_plain(value) for value in part.values]) for part in parts]
    by_name = _by_name(parts, tree)
    if names is None:
        names = _names_found(parts, by_name=by_name, tree=tree)
    else:
        check_class_names(names, str(tree.path))
        names = distinct([unicodedata.normalize("NFC", name) for name in names])
    index: dict[Value, int] = {name if by_name else k: k for k, name in enumerate(names)}
    labels = []
    for part in parts:
        for file, value in zip(part.files, part.values, strict=True):
            if value not in index:
                raise _unknown(tree.where(file), value, names, by_name=by_name)
            labels.append(index[value])
    return tuple(names), torch.tensor(labels, dtype=torch.int64)


def read_names(path: Path) -> tuple[str, ...]:
    """Read a list of class names.

    Raises:
        InputError: it is missing, no text, empty, or has an empty line between names.
    """
    path = at_home(path, "the list of class names")
    try:
        text = read_plain(path).decode("utf-8-sig")
        lines = [line.strip() for line in text.rstrip().splitlines()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        reason = "it is not UTF-8 text" if isinstance(error, ValueError) else reason
        raise InputError(
            f"{path}, the list of class names, cannot be read: {reason}.",
            expected="a text file with a name on each line.",
            next="correct the file, or choose another with -o dataset.names=FILE.",
        ) from None
    empty = [k for k, line in enumerate(lines, start=1) if not line] or [1][len(lines) :]
    if empty:
        raise InputError(
            f"{path}, the list of class names, has no name in line {empty[0]}.",
            expected="a name on each line, in the order of the class numbers.",
            next="name the class, or remove the line.",
        )
    return tuple(lines)


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of which none is there twice: those that are get their numbers.

    >>> distinct(["crane", "tern", "crane"])
    ('crane (0)', 'tern', 'crane (2)')
    """
    counts = Counter(names)
    return tuple(name if counts[name] == 1 else f"{name} ({k})" for k, name in enumerate(names))


def _plain(value: Value) -> Value:
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def _by_name(parts: Sequence[Part], tree: FileTree) -> bool:
    """Whether classes are given by name; refuses mixtures."""
    first: dict[type, str] = {}
    for part in parts:
        for file, value in zip(part.files, part.values, strict=True):
            first.setdefault(type(value), file)
    if int in first and str in first:
        raise InputError(
            f"{tree.path} has classes by number, as at {shown(first[int])}, and by name, as at "
            f"{shown(first[str])}.",
            expected="one of both.",
            next="correct the classes, or name another place of them with -o dataset.label=NAME.",
        )
    return str in first


def _names_found(parts: Sequence[Part], *, by_name: bool, tree: FileTree) -> tuple[str, ...]:
    known = {value for value in parts[0].values if value is not None}
    if by_name:
        found = sorted(map(str, known))
        check_class_names(found, str(tree.path))
        return tuple(found)
    largest = max((value for value in known if isinstance(value, int)), default=-1)
    if largest >= MOST_NUMBERED:
        raise InputError(
            f"the largest class number in {tree.path} is {largest}.",
            expected=f"classes from 0 to K - 1, with K at most {MOST_NUMBERED}.",
            next="number the classes from 0, or name another place of them with "
            "-o dataset.label=NAME.",
        )
    return tuple(map(str, range(largest + 1)))


def _unknown(where: str, value: Value, names: Sequence[str], *, by_name: bool) -> InputError:
    said = f"has the class {shown(str(value))}" if value is not None else "has no class"
    if by_name:
        known = f"one of {len(names)} classes, as {shown(names[0])}" if names else "a class"
    else:
        known = f"a number from 0 to {len(names) - 1}" if names else "a number from 0"
    return InputError(
        f"{where} {said}.",
        expected=f"{known}; those of the training part, or of the list of names.",
        next="correct the class or the list (-o dataset.names=FILE), or leave the image out.",
    )

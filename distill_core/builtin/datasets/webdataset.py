"""WebDataset: images and their classes in .tar shards, as KEY.jpg with KEY.cls or KEY.json.

Nothing is unpacked: the heads of the members say where each file lies, and images are read there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_core.builtin.datasets.labelled import (
    NEXT,
    Part,
    Value,
    load_labelled,
    numbered,
    read_names,
    shard_sources,
)
from distill_core.builtin.datasets.open_tree import open_tree
from distill_core.builtin.datasets.options import WebDatasetOptions
from distill_core.builtin.datasets.pictures import is_picture
from distill_core.builtin.datasets.plain_files import check_size
from distill_core.builtin.datasets.shard_parts import by_role, check_complete, choose, listed
from distill_core.builtin.datasets.tar_index import Place, files_in, read_at
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import InputError, RawData, Room, Sources, at_home, parse_json, shown

NAME_LISTS = ("classnames.txt", "classes.txt")
LARGEST_LABEL = 2**20  # bytes of a member with a class
MOST_DIGITS = 18  # of a class number
JSON, JSON_NAME = "json", "label"
Members = dict[str, Place]  # the files of one item, by ending


@dataclass(frozen=True)
class WebDataset:
    """Images in .tar shards; their order is that of the shards' names, then that in the shard."""

    options: WebDatasetOptions

    def load(self) -> RawData:
        """Read all images.

        Raises:
            InputError: the path, a shard, an image or a class cannot be used; it is named.
        """
        return self.load_into(Room())

    def sources(self) -> Sources:
        """Return the shards, and the list of class names."""
        return shard_sources(self.options)

    def load_into(self, room: Room) -> RawData:
        """Read all images into memory that is given."""
        root, shards, lists = self._found()
        parts = by_role(shards)
        check_complete(shards, root)
        chosen = choose(parts, root)
        reader = _Reader(root, self.options)
        used = (chosen.train, *chosen.test[:1])
        read = [reader.part(parts[name]) for name in used]
        tree = FileTree(root, (), (), reader.read)
        names = read_names(self.options.names) if self.options.names else None
        if names is None and lists and _by_number(read):
            names = read_names(root / lists[0])
        classes, labels = numbered(read, names, tree)
        return load_labelled(
            "webdataset",
            tree,
            [part.files for part in read],
            labels,
            classes,
            options=self.options,
            left_out=(*chosen.not_read(*used), *reader.left_out()),
            room=room,
        )

    def _found(self) -> tuple[Path, list[str], list[str]]:
        """The folder, the shards in it, and the lists of class names there."""
        path = at_home(self.options.path, "the path of the dataset")
        if path.is_file():
            return path.parent, [path.name], []
        if not path.is_dir():
            raise InputError(
                f"{path} {'is no file' if path.exists() else 'does not exist'}.",
                expected="a folder of .tar shards, or a .tar.",
                next=NEXT,
            )
        with open_tree(path, next=NEXT) as tree:
            shards = [file for file in tree.files if file.lower().endswith(".tar")]
            lists = [file for file in NAME_LISTS if file in tree.files]
            packed = [f for f in tree.files if ".tar." in f.lower() or f.lower().endswith(".tgz")]
        if shards:
            return path, shards, lists
        has = f"has only compressed ones, as {shown(packed[0])}" if packed else "has no .tar"
        raise InputError(
            f"{path} {has}.",
            expected="a folder of .tar shards that are not compressed.",
            next="unpack them to plain .tar, with gunzip for example." if packed else NEXT,
        )


@dataclass
class _Reader:
    """Finds the items of shards, and reads them.

    Attributes:
        root: the folder of the shards.
        options: which members are images and classes.
    """

    root: Path
    options: WebDatasetOptions
    _places: dict[str, tuple[str, Place]] = field(default_factory=dict)
    _others: Counter[str] = field(default_factory=Counter)

    def part(self, shards: list[str]) -> Part:
        """Return the images of some shards, and their classes."""
        files, values = [], []
        for shard in shards:
            for key, members in _items(self.root / shard).items():
                ending = self._image(f"{self.root / shard}/{key}", members)
                if ending is None:
                    continue
                file = f"{shard}/{key}.{ending}"
                self._places[file] = shard, members[ending]
                files.append(file)
                values.append(self._value(shard, key, members))
        if not files:
            what = f".{self.options.image}" if self.options.image else "pictures"
            raise InputError(
                f"{self.root / shards[0]} has no {what}, nor have the shards beside it.",
                expected="members KEY.jpg or of another ending of pictures, with KEY.cls.",
                next=NEXT + " -o dataset.image=ENDING chooses images by another ending.",
            )
        return Part(files, values)

    def read(self, file: str) -> bytes:
        """Read an image."""
        shard, place = self._places[file]
        check_size(place.size)
        return read_at(self.root / shard, place)

    def left_out(self) -> list[str]:
        """Return a sentence about members that belong to no image."""
        if not self._others:
            return []
        counts = ", ".join(f"{n:,} .{shown(ending)}" for ending, n in self._others.most_common(5))
        return [f"members without an image of their name are not read: {counts}."]

    def _image(self, where: str, members: Members) -> str | None:
        """The ending of an item's image; None: it has none."""
        if self.options.image:
            found = [self.options.image.lower().lstrip(".")]
            found = [ending for ending in found if ending in members]
        else:
            found = [ending for ending in members if is_picture(f".{ending}")]
        if len(found) > 1:
            raise InputError(
                f"{where} has several images: {listed(found)}.",
                expected="one image for each item, or the ending of the one that is meant.",
                next=f"pass -o dataset.image={shown(found[0])}, for example.",
            )
        if not found:
            self._others.update(members.keys())
            return None
        return found[0]

    def _value(self, shard: str, key: str, members: Members) -> Value:
        label = self.options.label or ("cls" if "cls" in members else JSON)
        ending, _, name = label.lstrip(".").partition(".")
        where = f"{self.root / shard}/{key}"
        if ending.lower() not in members:
            raise InputError(
                f"{where} has no class: no {shown(ending)}, only {listed(members)}.",
                expected="KEY.cls or KEY.json beside every image.",
                next="-o dataset.label=ENDING names the members that hold the class.",
            )
        where = f"{where}.{ending}"
        place = members[ending.lower()]
        if place.size > LARGEST_LABEL:
            raise _no_class(where, f"has {place.size:,} bytes")
        try:
            data = read_at(self.root / shard, place)
            found = parse_json(data) if ending.lower() == JSON else data.decode("utf-8-sig")
        except (OSError, ValueError) as error:
            raise _no_class(where, f"cannot be read ({error})") from None
        if ending.lower() == JSON:
            return _in_json(found, name or JSON_NAME, where)
        return _value_of(found.strip(), where)


def _items(path: Path) -> dict[str, Members]:
    """The members of a shard by key: all of a name before the first dot."""
    items: dict[str, Members] = {}
    for name, place in files_in(path):
        folder, slash, file = name.rpartition("/")
        stem, dot, ending = file.partition(".")
        if not stem or not dot or "__MACOSX" in folder:
            continue  # what systems leave behind, and files without an ending
        members = items.setdefault(f"{folder}{slash}{stem}", {})
        if ending.lower() in members:
            raise InputError(
                f"{path} has two members {shown(name)}.",
                expected="each name once in a shard.",
                next="make the shard anew.",
            )
        members[ending.lower()] = place
    return items


def _in_json(record: Any, name: str, where: str) -> Value:
    value = record
    for step in name.split("."):
        if not isinstance(value, dict) or step not in value:
            there = listed(value) if isinstance(value, dict) else "none"
            raise InputError(
                f"{where} has no {shown(step)}; its names are: {there}.",
                expected="the class in every json, by the same name.",
                next="-o dataset.label=json.NAME says which one it is.",
            )
        value = value[step]
    if isinstance(value, str):
        return _value_of(value.strip(), where, as_number=False)
    if type(value) is int:
        return value
    raise _no_class(where, f"has {shown(repr(value))} as {shown(name)}")


def _value_of(text: str, where: str, *, as_number: bool = True) -> Value:
    if not text:
        raise _no_class(where, "is empty")
    plain = text.removeprefix("-")
    if not (as_number and plain.isascii() and plain.isdigit()):
        return text
    if len(plain) > MOST_DIGITS:
        raise _no_class(where, f"has a number of {len(plain)} digits")
    return int(text)


def _no_class(where: str, what: str) -> InputError:
    return InputError(
        f"{where} {what}.",
        expected="a class: a whole number from 0, or a name.",
        next="correct it, or name the members that hold the class with -o dataset.label=ENDING.",
    )


def _by_number(parts: list[Part]) -> bool:
    return all(isinstance(value, int) for part in parts for value in part.values)

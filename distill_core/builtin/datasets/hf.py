"""Hugging Face `datasets` on the disk: folders of `save_to_disk`, and of .parquet files.

Only pyarrow is needed, not the package `datasets`, and nothing is downloaded or executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from distill_core.builtin.datasets.arrow_files import Table, open_table
from distill_core.builtin.datasets.labelled import (
    Part,
    Value,
    load_labelled,
    numbered,
    read_names,
)
from distill_core.builtin.datasets.options import HfOptions
from distill_core.builtin.datasets.pictures import READER
from distill_core.builtin.datasets.shard_parts import WORDS, by_role, check_complete, choose, role
from distill_core.builtin.datasets.tree import FileTree, check_size, files_to_read, open_tree
from distill_core.plugin import InputError, RawData, Room, Sources, at_home, parse_json, shown

NEXT = "correct -o dataset.path=PATH."
DICT, STATE, INFO = "dataset_dict.json", "state.json", "dataset_info.json"
NO_CLASS = -1  # what the hub has for images whose class is secret
ROW = " row "
BYTES, PATH = "bytes", "path"  # of an image, one of them is empty


class Columns(NamedTuple):
    """The columns with images and classes."""

    image: str
    label: str


@dataclass(frozen=True)
class Hf:
    """Images in the tables of `datasets`; in the order of the rows."""

    options: HfOptions

    def load(self) -> RawData:
        """Read all images.

        Raises:
            InputError: the path, a file, an image or a class cannot be used; it is named.
            EnvironmentFault: pyarrow is not installed.
        """
        return self.load_into(Room())

    def sources(self) -> Sources:
        """Return the files of the folder, and the list of class names."""
        files = dict(files_to_read(self.options.path, next=NEXT))
        if self.options.names:
            files["list of names"] = at_home(self.options.names, "the list of class names")
        how = self.options.model_dump_json(exclude={"path", "names"})
        return Sources(files, f"{READER} {how}")

    def load_into(self, room: Room) -> RawData:
        """Read all images into memory that is given."""
        path = at_home(self.options.path, "the path of the dataset")
        if not path.is_dir():
            raise InputError(
                f"{path} {'is not a folder' if path.exists() else 'does not exist'}.",
                expected="a folder of save_to_disk, or of .parquet files; no archive of it.",
                next=NEXT,
            )
        with open_tree(path, next=NEXT) as folder:
            parts = _parts(folder)
            choice = choose(parts, folder.path)
            tables = {
                file: open_table(folder.path / file)
                for name in (choice.train, *choice.test)
                for file in parts[name]
            }
            columns, known = _columns(tables, self.options, folder)
            reader = _Reader(folder, frozenset(folder.files), tables, columns.image)
            tree = FileTree(folder.path, (), (), reader.read)
            train, *tests = (
                _rows(parts[name], tables, columns.label) for name in (choice.train, *choice.test)
            )
            test = next((part for part in tests if _has_classes(part)), None)
            notes = [*choice.notes, *_without(choice.test, tests)]
            read = [train] if test is None else [train, test]
            names = read_names(self.options.names) if self.options.names else known
            classes, labels = numbered(read, names, tree)
            return load_labelled(
                "hf",
                tree,
                [part.files for part in read],
                labels,
                classes,
                options=self.options,
                left_out=notes,
                room=room,
            )


@dataclass(frozen=True)
class _Reader:
    """Reads the image of a row: its bytes, or a file of the folder that it names."""

    folder: FileTree
    files: frozenset[str]
    tables: dict[str, Table]
    column: str

    def read(self, file: str) -> bytes:
        name, _, row = file.rpartition(ROW)
        value = self.tables[name].value(int(row), self.column)
        data, path = value, None
        if isinstance(value, dict):
            data, path = value.get(BYTES), value.get(PATH)
        elif isinstance(value, str):
            data, path = None, value
        if isinstance(data, bytes) and data:
            check_size(len(data))
            return data
        if not path:
            raise OSError("it has no image")
        if path not in self.files:
            raise OSError(
                f"its image is in another file, {shown(path)}, which is not in the folder; "
                "save_to_disk of `datasets` 2.4 and later puts images into the table"
            )
        return self.folder.read(path)


def _parts(folder: FileTree) -> dict[str, list[str]]:
    """Files by their part, in their order.

    Raises:
        InputError: there are none, or one is missing.
    """
    if DICT in folder.files:
        splits = _said(folder, DICT).get("splits")
        if not isinstance(splits, list) or not splits:
            raise _damaged(folder.where(DICT), "names no splits")
        return _by_name({str(split): _saved(folder, f"{split}/") for split in splits}, folder)
    if STATE in folder.files:
        return {"": _saved(folder, "")}
    for ending in (".parquet", ".arrow"):
        found = [file for file in folder.files if file.endswith(ending)]
        if found:
            check_complete(found, folder.path)
            _check_one_kind(found, folder)
            return by_role(found)
    raise InputError(
        f"{folder.path} has no {DICT}, no {STATE}, and no .parquet or .arrow files.",
        expected="a folder of save_to_disk, or of .parquet files.",
        next="write it with `dataset.save_to_disk(FOLDER)`, or correct -o dataset.path=FOLDER.",
    )


def _by_name(splits: dict[str, list[str]], folder: FileTree) -> dict[str, list[str]]:
    """Splits by their part; one of another name keeps it."""
    parts = {WORDS.get(name.lower(), name): files for name, files in splits.items()}
    if len(parts) < len(splits):
        raise InputError(
            f"{folder.path} has two splits for one part by their names: {_listed(splits)}.",
            expected="one each for training, test and validation.",
            next="save the dataset again without one of them.",
        )
    return parts


def _saved(folder: FileTree, start: str) -> list[str]:
    """The files of a split, as its state lists them."""
    state = _said(folder, start + STATE)
    if any(state.get(name) for name in ("_indices_files", "_indices_data_files")):
        raise _damaged(
            folder.where(start + STATE),
            "says that rows were chosen by a table of an early version of `datasets`",
        )
    try:
        files = [start + str(each["filename"]) for each in state["_data_files"]]
    except (KeyError, TypeError):
        raise _damaged(folder.where(start + STATE), "does not list its files") from None
    for file in files:
        if file not in folder.files:
            raise InputError(
                f"{folder.where(start + STATE)} lists {shown(file)}, which is not there.",
                expected="all files of the dataset in their folder.",
                next="restore it, or save the dataset again.",
            )
    if not files:
        raise _damaged(folder.where(start + STATE), "lists no files")
    return files


def _check_one_kind(files: Sequence[str], folder: FileTree) -> None:
    """Refuse the files of several configurations, which lie in folders beside each other."""

    def configuration(file: str) -> str:
        return "/".join(step for step in file.split("/")[:-1] if not role(step))

    kinds = sorted({configuration(file) for file in files})
    if len(kinds) > 1:
        raise InputError(
            f"{folder.path} has tables in several folders: {', '.join(map(shown, kinds[:5]))}.",
            expected="the folder of one configuration of a dataset.",
            next=f"pass -o dataset.path={folder.where(kinds[-1])}, for example.",
        )


def _columns(
    tables: dict[str, Table], options: HfOptions, folder: FileTree
) -> tuple[Columns, list[str] | None]:
    """The columns to read, and the names of the classes if the tables say them."""
    first = next(iter(tables.values()))
    features = first.features or _info(folder, first.path)
    image = _column(
        options.image,
        _of_kind(features, "Image") or [n for n, t in first.types.items() if _can_be_image(t)],
        first,
        "image",
    )
    likely = _of_kind(features, "ClassLabel") or [
        n for n in ("label", "labels") if n in first.types
    ]
    others = [n for n, t in first.types.items() if n != image and _can_be_class(t)]
    label = _column(options.label, likely or others, first, "label")
    for table in tables.values():
        for column in (image, label):
            if table.types.get(column) != first.types[column]:
                raise InputError(
                    f"{table.path} has {table.types.get(column, 'nothing')} in the column "
                    f"{shown(column)}, and {first.path.name} has {first.types[column]}.",
                    expected="the same columns in all files.",
                    next="save the dataset again.",
                )
    if not _can_be_class(first.types[label]):
        raise InputError(
            f"the column {shown(label)} of {first.path} is {first.types[label]}.",
            expected="whole numbers, or names of classes.",
            next=f"choose another with -o dataset.label=NAME; there are: {_listed(first.types)}.",
        )
    names = features.get(label, {}).get("names") if isinstance(features.get(label), dict) else None
    return Columns(image, label), [str(name) for name in names] if names else None


def _column(given: str | None, found: Sequence[str], table: Table, option: str) -> str:
    if given is not None and given in table.types:
        return given
    if given is None and len(found) == 1:
        return found[0]
    if given is not None:
        what = f"no column {shown(given)}"
    else:
        what = f"{len(found)} columns that can be the {option}"
    which = f" ({_listed(found)})" if len(found) > 1 and given is None else ""
    raise InputError(
        f"{table.path} has {what}{which}.",
        expected=f"one of its columns: {_listed(table.types)}.",
        next=f"choose it with -o dataset.{option}=NAME.",
    )


def _of_kind(features: dict[str, Any], kind: str) -> list[str]:
    return [
        name
        for name, said in features.items()
        if isinstance(said, dict) and said.get("_type") == kind
    ]


def _can_be_image(kind: Any) -> bool:
    """Whether a column may hold images by its type: bytes, or bytes beside a path."""
    text = str(kind)
    return text in {"binary", "large_binary"} or (
        text.startswith("struct<") and "bytes: " in text and "path: " in text
    )


def _can_be_class(kind: Any) -> bool:
    text = str(kind)
    return text.startswith(("int", "uint", "dictionary<values=string")) or text in {
        *("string", "large_string", "bool"),
    }


def _rows(files: Iterable[str], tables: dict[str, Table], column: str) -> Part:
    """The rows of a part by name, and their classes."""
    names: list[str] = []
    values: list[Value] = []
    for file in files:
        table = tables[file]
        try:
            found = table.column(column)
        except OSError as error:
            raise _damaged(str(table.path), f"cannot be read: {error}") from None
        names += [f"{file}{ROW}{row}" for row in range(len(found))]
        values += [int(value) if isinstance(value, bool) else value for value in found]
    return Part(names, values)


def _has_classes(part: Part) -> bool:
    return any(value is not None and value != NO_CLASS for value in part.values)


def _without(names: Sequence[str], parts: Sequence[Part]) -> list[str]:
    return [
        f"the images of {name} have no classes, so they are not read."
        for name, part in zip(names, parts, strict=True)
        if not _has_classes(part)
    ]


def _info(folder: FileTree, path: Path) -> dict[str, Any]:
    """What a file beside a table says of its columns."""
    beside = (path.parent / INFO).relative_to(folder.path).as_posix()
    if beside not in folder.files:
        return {}
    features = _said(folder, beside).get("features")
    return features if isinstance(features, dict) else {}


def _said(folder: FileTree, file: str) -> dict[str, Any]:
    data = folder.read(file)
    try:
        said = parse_json(data)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise _damaged(folder.where(file), "is not as `datasets` writes it")
    return said


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(shown, names)) or "none"


def _damaged(what: str, how: str) -> InputError:
    return InputError(
        f"{what} {how}.",
        expected="a folder that save_to_disk of `datasets` has written.",
        next="save the dataset again.",
    )

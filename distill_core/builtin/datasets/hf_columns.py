"""The columns of a table of Hugging Face `datasets` that have the images and the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distill_core.builtin.datasets.arrow_files import Table
from distill_core.builtin.datasets.hf_folder import record_of
from distill_core.builtin.datasets.options import HfOptions
from distill_core.builtin.datasets.shard_parts import listed
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import InputError, shown

INFO = "dataset_info.json"


class Columns(NamedTuple):
    """The columns with images and classes."""

    image: str
    label: str


def columns_of(
    tables: dict[str, Table], options: HfOptions, folder: FileTree
) -> tuple[Columns, list[str] | None]:
    """The columns to read, and the names of the classes if the tables say them."""
    first = next(iter(tables.values()))
    features = first.features or _info(folder, first.path)
    image = _column(
        options.image,
        _of_kind(first, features, "Image")
        or [n for n, t in first.types.items() if _can_be_image(t)],
        first,
        "image",
    )
    likely = _of_kind(first, features, "ClassLabel") or [
        n for n in ("label", "labels") if n in first.types
    ]
    others = [n for n, t in first.types.items() if n != image and _can_be_class(t)]
    label = _column(options.label, likely or others, first, "label")
    for table in tables.values():
        for column in (image, label):
            if column not in table.types:
                raise InputError(
                    f"{table.path} has no column {shown(column)}, which {first.path.name} has.",
                    expected="images and their classes in all parts.",
                    next="save the dataset again; or if it is a part whose classes are secret, "
                    "leave it out: test images are held out of the training part then.",
                )
            if table.types[column] != first.types[column]:
                raise InputError(
                    f"{table.path} has {table.types[column]} in the column "
                    f"{shown(column)}, and {first.path.name} has {first.types[column]}.",
                    expected="the same columns in all files.",
                    next="save the dataset again.",
                )
    if not _can_be_class(first.types[label]):
        raise InputError(
            f"the column {shown(label)} of {first.path} is {first.types[label]}.",
            expected="whole numbers, or names of classes.",
            next=f"choose another with -o dataset.label=NAME; there are: {listed(first.types)}.",
        )
    names = _names(features, label)
    for table in tables.values():
        if _names(table.features or _info(folder, table.path), label) not in (names, None):
            raise InputError(
                f"{table.path} has other class names in the column {shown(label)} than "
                f"{first.path}, or in another order.",
                expected="the same class names in all files, so that numbers mean the same.",
                next="save the dataset again, with the same classes in every part.",
            )
    return Columns(image, label), names


def _column(given: str | None, found: Sequence[str], table: Table, option: str) -> str:
    if given is not None and given in table.types:
        return given
    if given is None and len(found) == 1:
        return found[0]
    if given is not None:
        what = f"no column {shown(given)}"
    else:
        what = f"{len(found)} columns that can be the {option}"
    which = f" ({listed(found)})" if len(found) > 1 and given is None else ""
    raise InputError(
        f"{table.path} has {what}{which}.",
        expected=f"one of its columns: {listed(table.types)}.",
        next=f"choose it with -o dataset.{option}=NAME.",
    )


def _of_kind(table: Table, features: dict[str, Any], kind: str) -> list[str]:
    """The columns of the table that are said to be of a kind."""
    return [
        name
        for name, said in features.items()
        if name in table.types and isinstance(said, dict) and said.get("_type") == kind
    ]


def _names(features: dict[str, Any], column: str) -> list[str] | None:
    """The names of the classes of a column; None: they are not said."""
    said = features.get(column)
    names = said.get("names") if isinstance(said, dict) else None
    sound = isinstance(names, list) and all(isinstance(name, str) for name in names)
    found: list[str] | None = names or None if sound else None
    return found


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


def _info(folder: FileTree, path: Path) -> dict[str, Any]:
    """What a file beside a table says of its columns."""
    beside = (path.parent / INFO).relative_to(folder.path).as_posix()
    if beside not in folder.files:
        return {}
    features = record_of(folder, beside).get("features")
    return features if isinstance(features, dict) else {}

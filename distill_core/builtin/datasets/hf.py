"""Hugging Face `datasets` on the disk: folders of `save_to_disk`, and of .parquet files.

Only pyarrow is needed, not the package `datasets`, and nothing is downloaded or executed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from distill_core.builtin.datasets.arrow_files import Table, open_table
from distill_core.builtin.datasets.hf_columns import columns_of
from distill_core.builtin.datasets.hf_folder import damaged, parts_of
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
from distill_core.builtin.datasets.options import HfOptions
from distill_core.builtin.datasets.plain_files import check_size
from distill_core.builtin.datasets.shard_parts import choose
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import InputError, RawData, Room, Sources, at_home, shown

NO_CLASS = -1  # what the hub has for images whose class is secret
ROW = " row "
BYTES, PATH = "bytes", "path"  # of an image, one of them is empty


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
        return shard_sources(self.options)

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
            parts = parts_of(folder)
            choice = choose(parts, folder.path)
            tables = {
                file: open_table(folder.path / file)
                for name in (choice.train, *choice.test)
                for file in parts[name]
            }
            columns, known = columns_of(tables, self.options, folder)
            reader = _Reader(folder, frozenset(folder.files), tables, columns.image)
            tree = FileTree(folder.path, (), (), reader.read)
            train = _rows(parts[choice.train], tables, columns.label)
            if not train.files:
                raise damaged(str(folder.path), "has no rows to train on")
            tests = {name: _rows(parts[name], tables, columns.label) for name in choice.test}
            useful = [name for name in tests if _has_classes(tests[name])]
            secret = [name for name in tests if name not in useful]
            notes = [
                *choice.not_read(*useful[:1], *secret),
                *(
                    f"the images of {name} have no classes, so they are not read."
                    for name in secret
                ),
            ]
            read = [train, *(tests[name] for name in useful[:1])]
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


@dataclass
class _Reader:
    """Reads the image of a row: its bytes, or a file of the folder that it names.

    Only the table that was read last is open, and keeps a group of rows in memory.
    """

    folder: FileTree
    files: frozenset[str]
    tables: dict[str, Table]
    column: str
    _last: Table | None = None

    def read(self, file: str) -> bytes:
        name, _, row = file.rpartition(ROW)
        table = self.tables[name]
        if self._last is not None and self._last is not table:
            self._last.forget()
        self._last = table
        value = table.value(int(row), self.column)
        data, path = value, None
        if isinstance(value, dict):
            data, path = value.get(BYTES), value.get(PATH)
        elif isinstance(value, str):
            data, path = None, value
        if isinstance(data, bytes) and data:
            check_size(len(data))
            return data
        if not isinstance(path, str) or not path:
            raise OSError("it has no image")
        if path not in self.files:
            raise OSError(
                f"its image is in another file, {shown(path)}, which is not in the folder; "
                "save_to_disk of `datasets` 2.4 and later puts images into the table"
            )
        return self.folder.read(path)


def _rows(files: Iterable[str], tables: dict[str, Table], column: str) -> Part:
    """The rows of a part by name, and their classes."""
    names: list[str] = []
    values: list[Value] = []
    for file in files:
        table = tables[file]
        try:
            found = table.column(column)
        except OSError as error:
            raise damaged(str(table.path), f"cannot be read: {error}") from None
        names += [f"{file}{ROW}{row}" for row in range(len(found))]
        values += map(_class, found)
    return Part(names, values)


def _class(value: bool | Value) -> Value:
    """A class as the table has it; a blank name is none."""
    if isinstance(value, str) and not value.strip():
        return None
    return int(value) if isinstance(value, bool) else value


def _has_classes(part: Part) -> bool:
    return any(value is not None and value != NO_CLASS for value in part.values)

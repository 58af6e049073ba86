"""Tables in .arrow and .parquet files: their columns, and one value of them at a time.

Arrow files are mapped into memory; of a parquet file one group of rows is in memory at a time. A
file is open while its values are asked for, so that there may be any number of them.
pyarrow is imported when a file is opened, since it is an extra.
"""

from __future__ import annotations

import contextlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from distill_core.builtin.datasets.plain_files import check_content
from distill_core.plugin import EnvironmentFault, InputError, stamps_of

END = b"\xff\xff\xff\xff\0\0\0\0"  # of a stream of arrow's; without it, rows can be missing
FILE = b"ARROW1"  # begins the other format of arrow's, which has its own end
DAMAGE = (ValueError, LookupError, TypeError, NotImplementedError)  # and rows that are too few
KEY = b"huggingface"  # what `datasets` says of the columns


@dataclass
class Table:
    """One file.

    Attributes:
        path: of the file.
        types: arrow's type of each column.
        features: what `datasets` says of each column; empty: nothing.
    """

    path: Path
    types: dict[str, Any]
    features: dict[str, Any]
    _ends: list[int]  # of the groups of rows
    _open: Callable[[], Opened]
    _opened: Opened | None = None
    _last: tuple[int, str, Any] = (-1, "", None)

    def column(self, name: str) -> list[Any]:
        """Return all values of a column.

        Raises:
            OSError: the file is damaged.
        """
        groups = range(len(self._ends))
        with _damage_said():
            found = [value for k in groups for value in self._read(k, name).to_pylist()]
        self.forget()
        return found

    def value(self, row: int, name: str) -> Any:
        """Return one value.

        Raises:
            OSError: the file is damaged.
        """
        group = bisect_right(self._ends, row)
        with _damage_said():
            if self._last[:2] != (group, name):
                self._last = group, name, self._read(group, name)
            return self._last[2][row - (self._ends[group - 1] if group else 0)].as_py()

    def forget(self) -> None:
        """Close the file, and let go of the rows that `value` keeps for the next call."""
        self._last, self._opened = (-1, "", None), None

    def _read(self, group: int, name: str) -> Any:
        """The array of a group and a column."""
        if self._opened is None:
            self._opened = self._open()
            if list(accumulate(self._opened.lengths)) != self._ends:
                raise ValueError("it has changed meanwhile")
        return self._opened.read(group, name)


class Opened(NamedTuple):
    """A file that is open as long as this is kept.

    Attributes:
        schema: arrow's.
        lengths: rows of each group.
        read: returns the array of a group and a column.
    """

    schema: Any
    lengths: list[int]
    read: Callable[[int, str], Any]


@contextlib.contextmanager
def _damage_said() -> Iterator[None]:
    """Turn what pyarrow raises for damaged rows, or text that is no UTF-8, into an OSError."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowCapacityError as error:
        raise OSError(
            f"a group of its rows has more in one column than can be read at once ({error}); write "
            "it with smaller groups of rows"
        ) from None
    except (*DAMAGE, pa.ArrowException) as error:
        raise OSError(f"it is damaged ({error})") from None


def open_table(path: Path) -> Table:
    """Open a file.

    Raises:
        InputError: it is missing, cut, damaged, or no table.
        EnvironmentFault: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise EnvironmentFault(
            f"{path} needs the package pyarrow, which is not installed.",
            expected="pyarrow, which reads .arrow and .parquet files.",
            next="`pip install 'distill-podd[hf]'`, or save the images to a folder for each class "
            "and use --dataset imagefolder.",
        ) from None
    try:
        check_content(path)
        opening = partial(_parquet, path) if path.suffix == ".parquet" else _Arrow(path)
        return _table(path, opening)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, NotImplementedError, pa.ArrowException) as error:
        reason = "it is not there" if isinstance(error, FileNotFoundError) else str(error)
        raise InputError(
            f"{path} cannot be read: {reason.rstrip('.')}.",
            expected="a whole .parquet file, or .arrow file as `datasets` writes it.",
            next="restore it, download it again, or save the dataset again.",
        ) from None


@dataclass
class _Arrow:
    """Opens an arrow file. Its values are checked once, and again if its stamp is another."""

    path: Path
    _checked: str = ""

    def __call__(self) -> Opened:
        import pyarrow as pa

        stamps = stamps_of({self.path.name: self.path})
        with open(self.path, "rb") as file:
            head = file.read(len(FILE))
            file.seek(-min(len(END), stamps.size), 2)
            whole = head == FILE or file.read() == END
        if not whole:
            raise ValueError("it is cut: the mark of its end is not there")
        source = pa.memory_map(str(self.path))
        if head == FILE:
            reader = pa.ipc.open_file(source)
            batches = [reader.get_batch(k) for k in range(reader.num_record_batches)]
        else:
            reader = pa.ipc.open_stream(source)
            batches = list(reader)
        if stamps.digest != self._checked:
            for batch in batches:
                batch.validate(full=True)  # values that point out of the file would end the process
            self._checked = stamps.digest if stamps.settled else ""
        lengths = [batch.num_rows for batch in batches]
        return Opened(reader.schema, lengths, lambda k, name: batches[k].column(name))


def _parquet(path: Path) -> Opened:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    lengths = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]

    def read(group: int, name: str) -> Any:
        return file.read_row_group(group, columns=[name]).column(name).combine_chunks()

    return Opened(file.schema_arrow, lengths, read)


def _table(path: Path, opening: Callable[[], Opened]) -> Table:
    """What is known of a file, which is closed again."""
    schema, lengths, _ = opening()
    types = {field.name: field.type for field in schema}
    features = _features((schema.metadata or {}).get(KEY, b"{}"))
    return Table(path, types, features, list(accumulate(lengths)), opening)


def _features(text: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(text).get("info", {}).get("features") or {})
    except (ValueError, AttributeError, TypeError):
        return {}  # then the types of the columns tell

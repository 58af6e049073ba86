"""A few hostile inputs for every reader; `benchmarks/faults/hostile.py` tries thousands."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from registry import ExplainedError

FAULTS = Path(__file__).parents[2] / "benchmarks" / "faults"
INPUTS, OF_DIRECTORIES = 5, 1


@pytest.fixture(scope="module")
def hostile() -> Iterator[ModuleType]:
    """benchmarks/faults/hostile.py, which is in no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAULTS))
        import hostile as module

        yield module
    files = ("hostile", "attacks", "reader", "readers", "run_files", "inputs", "places", "cached")
    for name in files:
        sys.modules.pop(name, None)


def test_hostile_files_are_read_or_refused(
    hostile: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found, read, refused = [], 0, 0
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is cut here
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))  # which it changes
    for reader in hostile.readers(tmp_path / "seed"):
        inputs = OF_DIRECTORIES if reader.kind == "place" else INPUTS
        if reader.kind != "place":
            place = new_place(tmp_path)
            reader.put(reader.good, place)
            reader.read(reader.good, place)  # the good file is read
        for number, data in enumerate(
            islice(hostile.mutations(reader.good, reader.kind, 7), inputs)
        ):
            outcome = ending(reader, data, new_place(tmp_path))
            read += outcome == "read"
            refused += outcome == "refused"
            if outcome not in {"read", "refused"}:
                found.append((reader.name, number, outcome))
    assert found == []
    assert read > 0
    assert refused > read
    assert not (tmp_path / "executed").exists()


def new_place(folder: Path) -> Path:
    """An empty folder."""
    return Path(tempfile.mkdtemp(dir=folder))


def ending(reader: object, data: bytes, place: Path) -> str:
    """How reading ends."""
    try:
        reader.put(data, place)  # type: ignore[attr-defined]
        reader.read(data, place)  # type: ignore[attr-defined]
    except ExplainedError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def test_the_watch_sees_what_reading_must_not_do(
    hostile: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that unpickles is found out: the harness can fail."""
    import attacks
    import reader

    bad = reader.Reader(
        "a pickle",
        "bytes",
        pickle.dumps(attacks.Explosive()),
        lambda data, place: pickle.loads(data),
    )
    monkeypatch.setattr(hostile, "mutations", lambda good, kind, seed: iter([good]))
    _, findings = hostile.attack(bad, 0, 1, tmp_path)
    assert any("pickle.find_class" in each.what for each in findings)

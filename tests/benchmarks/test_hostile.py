"""A few hostile inputs for every reader; `benchmarks/faults/hostile.py` tries thousands."""

from __future__ import annotations

import pickle
import shutil
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from registry import ExplainedError

FAULTS = Path(__file__).parents[2] / "benchmarks" / "faults"
INPUTS = 12


@pytest.fixture(scope="module")
def hostile() -> Iterator[ModuleType]:
    """benchmarks/faults/hostile.py, which is in no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAULTS))
        import hostile as module

        yield module
    for name in ("hostile", "attacks", "readers", "run_files", "inputs"):
        sys.modules.pop(name, None)


def test_hostile_files_are_read_or_refused(
    hostile: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found, read, refused = [], 0, 0
    for reader in hostile.readers(tmp_path / "seed"):
        place = tmp_path / "good"
        reader.read(reader.good, place_of(place))  # the good file is read
        for number, data in enumerate(
            islice(hostile.mutations(reader.good, reader.kind, 7), INPUTS)
        ):
            outcome = ending(reader, data, place_of(tmp_path / f"{number}"))
            read += outcome == "read"
            refused += outcome == "refused"
            if outcome not in {"read", "refused"}:
                found.append((reader.name, number, outcome))
    assert found == []
    assert read > 0
    assert refused > read
    assert not (tmp_path / "executed").exists()


def place_of(path: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def ending(reader: object, data: bytes, place: Path) -> str:
    """How reading ends."""
    try:
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
    import readers

    bad = readers.Reader(
        "a pickle",
        "bytes",
        pickle.dumps(attacks.Explosive()),
        lambda data, place: pickle.loads(data),
    )
    monkeypatch.setattr(hostile, "mutations", lambda good, kind, seed: iter([good]))
    _, findings = hostile.attack(bad, 0, 1, tmp_path)
    assert any("pickle.find_class" in each.what for each in findings)

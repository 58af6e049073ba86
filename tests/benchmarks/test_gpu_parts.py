"""The pieces of benchmarks/gpu.py: budget, book, table, processes that die, plugins, warnings."""

from __future__ import annotations

import sys
import tarfile
import time
import warnings
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MADE = {"card": "H100", "torch": "2.11", "form": "published", "sources": "abc", "date": "today"}
Lines = list[dict[str, Any] | None]


@pytest.fixture(autouse=True)
def _importable() -> Iterator[None]:
    """The files of benchmarks/ are in no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield
    for name in [name for name in sys.modules if name.partition("_")[0] == "gpu"]:
        sys.modules.pop(name)


def test_a_part_gets_what_is_left_or_a_sentence() -> None:
    from gpu import PARTS, allotted

    for part, its in PARTS.items():
        assert allotted(part, "published", 1e6) == its.most
        assert allotted(part, "published", its.least) == its.least
        said = allotted(part, "published", its.least - 1)
        assert isinstance(said, str)
        assert said.startswith("skipped: ")
    assert (
        allotted("steps", "published", -3.0) == "skipped: 0 s are left, and it needs at least 45 s"
    )
    # All but the runs fit into the half hour of a lent machine, with room for its starts.
    assert sum(its.most for part, its in PARTS.items() if part != "runs") < 20 * 60


def test_a_book_keeps_cells_and_finished_parts_of_the_same_code_and_card(tmp_path: Path) -> None:
    from gpu_book import Book

    one = Book.open(tmp_path)
    assert one.begin("steps", MADE) == []
    one.add("steps", "A", {"seconds": 0.5})
    again = Book.open(tmp_path)  # the first was killed
    assert not again.finished("steps", MADE)
    assert again.begin("steps", {**MADE, "date": "tomorrow"}) == ["A"]
    again.add("steps", "B", {"failed": "no"})
    again.end("steps", done=True, seconds=3.0)
    last = Book.open(tmp_path)
    assert last.finished("steps", MADE)
    for name in ("card", "torch", "form", "sources"):
        other = {**MADE, name: "another"}
        assert not last.finished("steps", other)
    assert last.begin("steps", {**MADE, "sources": "another"}) == []
    assert Book.open(tmp_path).begin("steps", MADE, again=True) == []


def test_a_part_that_is_skipped_keeps_what_was_measured(tmp_path: Path) -> None:
    from gpu_book import Book

    book = Book.open(tmp_path)
    book.begin("steps", MADE)
    book.add("steps", "A", {"seconds": 0.5})
    book.end("steps", done=False, seconds=1.0)
    book.skip("steps", MADE, "skipped: no time")
    book.skip("memory", MADE, "skipped: no time either")
    text = (tmp_path / "gpu.md").read_text()
    assert "| A | 0.5 |" in text
    assert "skipped: no time either" in text
    assert Book.open(tmp_path).begin("steps", MADE) == ["A"]


def test_a_damaged_book_is_set_aside(tmp_path: Path) -> None:
    from gpu_book import Book

    (tmp_path / "gpu.json").write_text('{"parts": {"steps": ')
    assert Book.open(tmp_path).parts == {}
    assert (tmp_path / "gpu.damaged").exists()


def test_the_table_has_a_column_for_every_figure_and_says_what_failed() -> None:
    from gpu_book import table

    cells = {
        "A": {"seconds": 0.123456, "engine": "a|b"},
        "B": {"peak MiB": 12345.6, "kept": False},
        "C": {"failed": "CUDA error: gone"},
        "D": {"text": "a page"},
    }
    assert table(cells) == [
        "|  | seconds | engine | peak MiB | kept |",
        "|---|---|---|---|---|",
        "| A | 0.1235 | a/b |  |  |",
        "| B |  |  | 12346 | no |",
        "",
        "Not measured:",
        "- C: CUDA error: gone",
    ]


def test_facts_of_a_part_are_a_line() -> None:
    from gpu_book import facts

    made = {**MADE, "driver": "580", "triton": "3.6", "commit": "f00", "python": "3.12"}
    assert facts(made, 12.3) == (
        "H100; driver 580; torch 2.11; triton 3.6; python 3.12; today; commit f00 (abc); 12 s"
    )
    assert "mean nothing" in facts({**made, "form": "tiny"}, 1)


class Fake:
    """Processes that say what is written down for them, one after the other."""

    def __init__(self, *scripts: Lines, status: int = 1) -> None:
        self.scripts = list(scripts)
        self.started: list[list[str]] = []
        self._status = status

    def __call__(self, known: list[str]) -> Fake:
        self.started.append(list(known))
        self.lines = self.scripts.pop(0)
        return self

    def line(self, seconds: float) -> dict[str, Any] | None:
        found = self.lines.pop(0)
        if found == {"hangs": True}:
            raise TimeoutError
        return found

    def status(self) -> int:
        return self._status

    def kill(self) -> None:
        """It has ended."""


def cell(name: str) -> Lines:
    return [{"begin": name}, {"cell": name, "found": {"seconds": 1.0}}]


def followed(fake: Fake, kept: list[str], seconds: float = 100.0) -> tuple[Any, dict[str, Any]]:
    from gpu_follow import follow

    found: dict[str, Any] = {}

    def add(name: str, figures: Mapping[str, Any]) -> None:
        found[name] = figures

    ending = follow(fake, add, kept=kept, until=time.monotonic() + seconds, each=7.0)
    return ending, found


def test_a_process_that_dies_loses_its_cell_and_no_other() -> None:
    fake = Fake([*cell("A"), {"begin": "B"}, None], [*cell("C"), {"end": True}], status=-11)
    ending, found = followed(fake, ["Z"])
    assert ending.done
    assert fake.started == [["Z"], ["Z", "A", "B"]]
    assert found["B"] == {"failed": "its process ended with status -11"}
    assert set(found) == {"A", "B", "C"}


def test_a_cell_that_hangs_is_given_up() -> None:
    fake = Fake([{"begin": "A"}, {"hangs": True}], [*cell("B"), {"end": True}])
    ending, found = followed(fake, [])
    assert ending.done
    assert found["A"] == {"failed": "gave nothing for 7 s"}
    assert "seconds" in found["B"]


def test_a_part_whose_time_is_over_keeps_its_cells_for_the_next_call() -> None:
    fake = Fake([*cell("A"), {"begin": "B"}, {"hangs": True}])
    ending, found = followed(fake, [], seconds=0.0)
    assert not ending.done
    assert "time was over" in ending.said
    assert set(found) == {"A"}


def test_a_process_that_never_begins_ends_the_part() -> None:
    ending, found = followed(Fake([None], status=1), [])
    assert not ending.done
    assert "status 1" in ending.said
    assert found == {}


def test_a_process_whose_device_is_lost_is_followed_by_another() -> None:
    failed = [{"begin": "A"}, {"cell": "A", "failed": "CUDA error"}, None]
    ending, found = followed(Fake(failed, [*cell("B"), {"end": True}], status=3), [])
    assert ending.done
    assert set(found) == {"A", "B"}


def test_plugins_of_a_checkout_are_declared_as_an_installation_would(tmp_path: Path) -> None:
    from gpu_machine import declare

    info = declare(tmp_path)
    (distribution,) = metadata.distributions(path=[str(tmp_path)])
    declared = {(p.group, p.name, p.value) for p in distribution.entry_points}
    installed = metadata.distribution("distill-podd")
    expected = {(p.group, p.name, p.value) for p in installed.entry_points if p.group == "distill"}
    assert expected
    assert {each for each in declared if each[0] == "distill"} == expected
    assert distribution.metadata["Name"] == "distill-podd"
    assert info.parent == tmp_path


def test_waits_are_counted_by_the_line_that_waits() -> None:
    from gpu_smoke import SYNCHRONISES, places

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(3):
            warnings.warn_explicit(SYNCHRONISES, UserWarning, "/a/unroll.py", 12)
        warnings.warn_explicit("something else", UserWarning, "/a/unroll.py", 12)
    assert places(found) == {"unroll.py:12": 3}


def test_an_option_that_is_not_in_this_version_is_said() -> None:
    from gpu_setting import NotHere, here, optional

    assert here(["engine.path=autograd", "algo.batch=3"]) == [
        "engine.path=autograd",
        "algo.batch=3",
    ]
    with pytest.raises(NotHere, match=r"option engine\.telepathy is not in this version"):
        here(["engine.telepathy=on"])
    assert optional(["run.telepathy=on"]) == ()


def test_the_pack_of_runs_is_small_and_is_put_back_only_where_it_is_ahead(tmp_path: Path) -> None:
    from gpu_runs import pack, unpack

    def make(folder: Path, steps: int) -> None:
        (folder / "checkpoint").mkdir(parents=True)
        (folder / "checkpoint" / "state.safetensors").write_bytes(b"state %d" % steps)
        (folder / "manifest.json").write_text(f'{{"outer_steps": {steps}}}')
        (folder / "whitening.safetensors").write_bytes(b"large")

    make(tmp_path / "runs" / "one", 3)
    file = tmp_path / "runs.tar.gz"
    pack(tmp_path / "runs", file)
    with tarfile.open(file) as tar:
        assert tar.getnames() == ["one/manifest.json", "one/checkpoint/state.safetensors"]
    for steps, expected in ((None, 3), (2, 3), (5, 5)):
        there = tmp_path / f"there {steps}" / "runs"
        if steps is not None:
            make(there / "one", steps)
        unpack(file, there)
        state = there / "one" / "checkpoint" / "state.safetensors"
        assert state.read_bytes() == b"state %d" % expected


def test_data_are_found_by_name_and_an_archive_is_unpacked_once(tmp_path: Path) -> None:
    from gpu_runs import data_of
    from gpu_sizes import Job

    from registry import InputError

    (tmp_path / "cifar10" / "train").mkdir(parents=True)
    with tarfile.open(tmp_path / "cifar10.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "cifar10", "cifar10")
    work = tmp_path / "work"
    job = Job("runs", "cpu", "published", 0.0, (tmp_path / "cifar10.tar.xz",), tmp_path, work)
    found = data_of(job, "podd-cifar10-1.0")
    assert (found / "cifar10" / "train").is_dir()
    (tmp_path / "cifar10.tar.xz").write_bytes(b"")  # not read again
    assert data_of(job, "images-cifar10-1.0") == found
    with pytest.raises(InputError, match="images of cifar100 are not here"):
        data_of(job, "podd-cifar100-0.4")

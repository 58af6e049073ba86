"""Runs of cells: who has one, how it begins or goes on, and Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from distill_core.cli import run
from tests.distill_core.cli.fakes import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import cell_runs
import paper
import paper_book
from number_ranges import count, numbers


def test_ranges_of_seeds_have_both_ends():
    assert numbers("0-3,7") == [0, 1, 2, 3, 7]


@pytest.mark.parametrize("text", ["3-1", "", "1,", "-1", "1-", "a", "1.5", "0-3-5"])
def test_what_is_no_range_of_seeds_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="such as 0-3,7"):
        numbers(text)


def test_a_claimed_run_is_left_to_its_owner(tmp_path):
    with cell_runs.claimed(tmp_path / "run") as first:
        assert first
        with cell_runs.claimed(tmp_path / "run") as second:
            assert not second
    with cell_runs.claimed(tmp_path / "run") as again:
        assert again


def test_a_run_begins_with_all_its_steps_and_goes_on_where_it_was(tmp_path):
    name, args = paper.arguments(["--table", "1", "--steps", "9", "--data", "cifar10=c10.zip"])
    words = cell_runs.command(paper.PARTS[name](args)[0], 0, tmp_path, args)
    begun = run.command.make_context("run", words[1:]).params
    assert (begun["out"], begun["steps"], begun["yes"]) == (tmp_path, 9, True)
    (tmp_path / "run.toml").touch()
    words = cell_runs.command(paper.PARTS[name](args)[0], 0, tmp_path, args)
    going_on = run.command.make_context("run", words[1:]).params
    assert (going_on["out"], going_on["resume"], going_on["yes"]) == (tmp_path, True, False)


def test_interrupts_are_left_to_the_run(monkeypatch):
    """A terminal sends Ctrl-C to both, and a run saves its state first."""
    before, asked = signal.getsignal(signal.SIGINT), []  # a shell's background jobs ignore it

    def interrupted(command: list[str], *, check: bool, preexec_fn: Any) -> Any:
        asked.append(command)
        signal.raise_signal(signal.SIGINT)
        return SimpleNamespace(returncode=130)

    monkeypatch.setattr(subprocess, "run", interrupted)
    assert cell_runs.distill(["run", "--resume"]) == 130
    assert asked == [[sys.executable, "-m", "distill_core", "run", "--resume"]]
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [("[{", "cannot be read: .*line 1"), ("{}", "no list of finished"), ("[1]", "no list of")],
)
def test_a_file_that_is_no_book_is_refused(tmp_path, text, said):
    (tmp_path / "book.json").write_text(text)
    with pytest.raises(SystemExit, match=f"--book .*book.json.*{said}"):
        paper_book.read(tmp_path / "book.json")
    with pytest.raises(SystemExit, match=r"--book .*cannot be read"):
        paper_book.read(tmp_path)


def test_the_book_of_another_script_is_refused():
    book = ROOT / "benchmarks" / "bytes.json"
    with pytest.raises(SystemExit, match=r"its record 1 has no 'cell'. Take that out"):
        paper.finished(book)
    assert paper.finished(ROOT / "benchmarks" / "paper.json")


@pytest.mark.parametrize("text", ["0", "-1", "", "1.5", "a"])
def test_what_is_no_count_is_refused(text):
    """No outer steps were taken for no limit of them: the run took an hour."""
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        count(text)
    assert count("12") == 12


@pytest.mark.parametrize("text", ["cifar10=", "cifar10", "digits=x"])
def test_data_without_a_path_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="DATASET=PATH"):
        cell_runs.pairs(text)


def test_many_options_make_a_name_that_file_systems_take(tmp_path):
    options = [f"dataset.path=/é/{number:0100}" for number in range(9)]
    words = ["--table", "1", "--data", "cifar10=c10.zip"]
    part, args = paper.arguments([*words, *(each for o in options for each in ("-o", o))])
    first, second = paper.PARTS[part](args)[:2]
    names = {paper.name_of(cell, seed, args) for cell in (first, second) for seed in (0, 1)}
    assert len(names) == 4
    for name in names:
        (tmp_path / f"figure-8-{name}.png").mkdir()
    _, args = paper.arguments([*words, "-o", "a.b=c"])
    assert paper.name_of(first, 0, args) == "cifar10-images-1.0-60-minutes-a.b-c-0"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child goes on")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_does_not_outlive_its_command(tmp_path, number):
    (tmp_path / "distill_core.py").write_text(
        "import time; print('begun', flush=True); time.sleep(60); print('went on')"
    )
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT / 'benchmarks')!r}]; import cell_runs, os;"
        f"os.chdir({str(tmp_path)!r}); cell_runs.distill([])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        parent.send_signal(number)
        assert parent.stdout.read() == ""  # the pipe is closed: the child, too, has ended

"""Output that cannot be printed is lost or escaped, and never raises."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill_core.system.screen import patient, plain_console, results, screen, unseen_results
from registry import EnvironmentFault


def broken_pipe() -> io.TextIOWrapper:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def full() -> io.TextIOWrapper:
    """A file on a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    return Path("/dev/full").open("w")


def finish(stream: io.TextIOWrapper) -> None:
    """Close a stream; nothing is left in it that could not be written."""
    stream.close()


def test_a_reader_that_left_wants_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = broken_pipe()
    monkeypatch.setattr(sys, "stdout", stream)
    with screen() as shown:
        print("a line")
        plain_console().print("another")
        assert sys.stdout is not stream
        shown.check()
    assert sys.stdout is stream
    finish(stream)


def test_a_reader_that_is_too_slow_cuts_the_output_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program has made the pipe non-blocking, and nobody reads it."""
    monkeypatch.setattr("distill_core.system.screen.PATIENCE", 0.05)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stream = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    with screen() as shown:
        print("x" * 2**21)
        with pytest.raises(EnvironmentFault, match="the output is not complete"):
            shown.check()
    os.close(reader)
    with contextlib.suppress(OSError):
        stream.close()


def test_output_that_is_cut_off_is_not_called_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = full()
    monkeypatch.setattr(sys, "stdout", stream)
    with screen() as shown:
        shown.check()
        print("a line")
        with pytest.raises(EnvironmentFault, match="not complete: No space left on device"):
            shown.check()
    finish(stream)


@pytest.mark.parametrize("made", [broken_pipe, full])
def test_a_command_that_keeps_its_results_goes_on_and_says_so_once(
    made: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = made()  # type: ignore[operator]
    monkeypatch.setattr(sys, "stdout", stream)
    with screen() as shown:
        unseen_results("the run goes on.")
        print("a line")
        print("another")
        shown.check()
    said = capsys.readouterr().err
    assert said.startswith("nothing more can be shown: ")
    assert said.endswith("; the run goes on.\n")
    assert said.count("\n") == 1
    finish(stream)


def test_closed_streams_take_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with screen() as shown:
        print("a line")
        plain_console(stderr=True).print("another")
        with pytest.raises(EnvironmentFault, match="Bad file descriptor"):
            shown.check()


@pytest.mark.parametrize("text", ["\u20ac", "\udcff", "[/no] :heart:"])
def test_text_that_an_encoding_lacks_is_escaped_and_nothing_is_markup(text: str) -> None:
    below = io.BytesIO()
    stream = io.TextIOWrapper(below, encoding="ascii")
    print(text, file=patient(stream))
    assert below.getvalue().decode() == text.encode("ascii", "backslashreplace").decode() + "\n"


def test_a_console_prints_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    plain_console().print("[/no] :heart: [red]")
    assert capsys.readouterr().out == "[/no] :heart: [red]\n"


CODE = """
import os, sys
from distill_core.system.screen import results, screen
with screen(records=True):
    print("of a plugin")
    os.system("echo of a program")
    os.write(1, b"of a library\\n")
    print("{}", file=results())
print("later")
"""


def test_records_are_alone_on_standard_output() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "{}\nlater\n"
    assert sorted(done.stderr.splitlines()) == ["of a library", "of a plugin", "of a program"]


def test_records_are_alone_in_memory_too(capsys: pytest.CaptureFixture[str]) -> None:
    with screen(records=True):
        print("of a plugin")
        print("{}", file=results())
    found = capsys.readouterr()
    assert (found.out, found.err) == ("{}\n", "of a plugin\n")


CLOSED = """
import os, sys
from distill_core.system.screen import screen
with screen(), open(sys.argv[1], "w") as file:
    os.write(2, b"a warning of a library")
    raise SystemExit(file.fileno())
"""


def test_files_never_get_the_numbers_of_standard_files(tmp_path: Path) -> None:
    """Or what a library prints would end up in a checkpoint."""
    file = tmp_path / "file"
    command = ["sh", "-c", 'exec "$0" "$@" >&- 2>&-', sys.executable, "-c", CLOSED, str(file)]
    assert subprocess.run(command, check=False, timeout=60).returncode > 2
    assert file.read_text() == ""

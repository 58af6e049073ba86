"""Completion: names of commands, components, presets and options, without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from distill_core.cli import main
from tests.distill_core.cli.fakes import ROOT, distill, process


def complete(*words: str) -> list[str]:
    """Complete the last word."""
    shell = ShellComplete(main, {}, "distill", "_DISTILL_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_calls_distill(shell: str) -> None:
    result = distill("completion", shell)
    assert result.exit_code == 0
    assert f"_DISTILL_COMPLETE={shell}_complete" in result.stdout
    assert result.stderr.startswith("To install, ")


BASH = """
PATH="$1:$PATH"
source <(distill completion bash 2>/dev/null)
compopt() { SPACE="no space"; }  # outside of a real completion bash would refuse it
COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2)) COMPREPLY=() SPACE=
_distill_completion distill
printf '%s\\n' "${COMPREPLY[@]}" "$SPACE"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("distill", "swe"), ["sweep", ""]),
        (("distill", "run", "-o", "evaluate.net"), ["evaluate.nets=", "no space"]),
        (("distill", "show", "orderer", "poc"), ["poco", ""]),
    ],
)
def test_bash_completes(words: tuple[str, ...], expected: list[str], tmp_path: Path) -> None:
    program = tmp_path / "distill"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m distill_core "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", str(tmp_path), *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.splitlines() == expected, done.stderr
    assert done.stderr == ""


def test_an_unknown_shell() -> None:
    assert distill("completion", "csh").exit_code == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("swe",), ["sweep"]),
        (("run", "--repr", "pos"), ["poster"]),
        (("run", "--preset", "quick-dig"), ["quick-digits"]),
        (("run", "-o", "evaluate.net"), ["evaluate.nets="]),
        (("run", "--algo", "ratbptt", "-o", "algo.win"), ["algo.window="]),
        (("run", "-o", "algo.win"), []),
        (("run", "-o", "e"), ["engine.", "evaluate."]),
        (("show", "orde"), ["orderer"]),
        (("show", "orderer", "poc"), ["poco"]),
        (("show", "nonsense", "poc"), []),
    ],
)
def test_names(words: tuple[str, ...], expected: list[str]) -> None:
    assert complete(*words) == expected


def test_completion_imports_no_torch() -> None:
    code = (
        "import sys; from tests.distill_core.cli.test_completion import complete;"
        "assert complete('run', '--algo', 'ratbptt', '-o', 'algo.win');"
        "complete('run', '--repr', '');"
        "raise SystemExit('torch' in sys.modules)"
    )
    result = process("-c", code)
    assert result.returncode == 0, result.stderr

"""Completion: names of commands, components, presets and options, without torch."""

from __future__ import annotations

import pytest
from click.shell_completion import ShellComplete

from distill_core.cli import main
from tests.distill_core.cli.fakes import distill, process


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

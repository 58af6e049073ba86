"""The source of a component is read from its docstring, and its module is not imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from registry import Component
from registry.docstrings import source_of

MODULE = '''"""Orders.

Source: Ada 1843, note G,
continued.

More text.
"""
raise RuntimeError("imported")


class Own:
    """Its own. Source: not at the start of a line.

    Source: Hopper 1952.
    """


class Plain:
    """Nothing is said here."""


def made():
    pass
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "documented_orders.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "documented_orders"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Own", "Hopper 1952."),
        ("Plain", "Ada 1843, note G, continued."),
        ("made", "Ada 1843, note G, continued."),
        ("missing", "Ada 1843, note G, continued."),
    ],
)
def test_the_class_comes_before_its_module(module: str, name: str, expected: str) -> None:
    assert source_of(Component("one", f"{module}:{name}")) == expected
    assert module not in sys.modules


@pytest.mark.parametrize("factory", ["no.such.module:Name", "sys:exit", "nonsense", lambda o: o])
def test_without_a_source_file_or_a_source_nothing_is_said(factory: object) -> None:
    assert source_of(Component("one", factory)) == ""  # type: ignore[arg-type]

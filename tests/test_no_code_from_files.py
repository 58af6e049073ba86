"""Nothing that is read from disk can run code: no unpickling, no evaluation of text, in any file.

What reading does in fact is watched by `tests/benchmarks/test_hostile.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distill_core.cli.fakes import ROOT

MODULES = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
CALLS = {"eval", "exec", "torch.load", "torch.jit.load", "yaml.load", "pandas.read_pickle"}
FILES = sorted(
    path
    for top in ("registry", "distill_core", "podd_plugin")
    for path in (ROOT / top).rglob("*.py")
)


def faults(source: str) -> Iterator[str]:
    """Yield what a file does that could run code from another file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
            yield from (f"import {name}" for name in names if name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in MODULES:
                yield f"from {node.module} import"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS:
                yield f"{called}()"
            refuses = any(
                word.arg == "allow_pickle" and ast.unparse(word.value) == "False"
                for word in node.keywords
            )
            if called in {"np.load", "numpy.load"} and not refuses:
                yield f"{called}() without allow_pickle=False"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_of_ours_loads_code(path: Path) -> None:
    assert list(faults(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from joblib import load",
        "torch.load(path, weights_only=True)",
        "eval('1')",
        "np.load(file)",
        "numpy.load(file, allow_pickle=True)",
    ],
)
def test_the_check_finds_what_it_looks_for(source: str) -> None:
    assert list(faults(source))

"""The layers of the house: who may import whom, read from the source of every file.

cli -> engine -> contracts, geometry -> registry
builtin, podd_plugin, third parties -> distill_core.plugin
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill_core.discovery import discover
from tests.distill_core.cli.fakes import ROOT, process

OURS = ("registry", "distill_core", "podd_plugin")
# A word that names a component and is something else too, with the reason.
HOMONYMS = {
    ("export.py", "images"): "the format of pictures, in `distill export --format`",
}


def modules(source: str, package: str) -> Iterator[str]:
    """Yield the full name of every module that a file imports, wherever it does.

    Import strings ("package.module:Name", or a plain dotted name) count as imports.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            target = node.value.partition(":")[0]
            if target.startswith(tuple(f"{name}." for name in OURS)) and target.isprintable():
                yield target


def imports_within(name: str, top: str) -> bool:
    return name == top or name.startswith(f"{top}.")


def violations(path: str, source: str) -> list[str]:
    """Name the imports of one file that its layer does not allow.

    Args:
        path: the file, from the root of the checkout, as "distill_core/run.py".
        source: its text.
    """
    package = path.rpartition("/")[0].replace("/", ".")
    found = []
    for name in modules(source, package):
        if imports_within(package, "registry"):
            allowed = not any(
                imports_within(name, top) for top in ("torch", "distill_core", "podd_plugin")
            )
        elif imports_within(package, "podd_plugin"):
            ours = any(imports_within(name, top) for top in OURS)
            own = imports_within(name, "podd_plugin")
            allowed = not ours or own or imports_within(name, "distill_core.plugin")
        else:
            builtin = imports_within(name, "distill_core.builtin")
            allowed = not imports_within(name, "podd_plugin") and (
                not builtin or imports_within(package, "distill_core.builtin")
            )
        if not allowed:
            found.append(f"{path} imports {name}")
    return found


def literals(source: str) -> set[str]:
    """Return every string in a file that is no docstring."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    }


def sources(package: str) -> dict[str, str]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    return {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}


@pytest.mark.parametrize("package", OURS)
def test_every_file_keeps_to_its_layer(package: str) -> None:
    found = [fault for path, text in sources(package).items() for fault in violations(path, text)]
    assert found == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("registry/x.py", "import torch"),
        ("registry/x.py", "def f():\n    from torch.nn import Linear"),
        ("registry/x.py", "from distill_core import data"),
        ("registry/x.py", "from podd_plugin.poco import Poco"),
        ("distill_core/x.py", "import podd_plugin.poco"),
        ("distill_core/x.py", "from distill_core.builtin import images"),
        ("distill_core/x.py", "from distill_core import builtin"),
        ("distill_core/cli/x.py", "from ..builtin.images import Images"),
        ("distill_core/cli/x.py", "from distill_core.builtin.images import Images"),
        ("distill_core/x.py", "name = 'distill_core.builtin.images:Images'"),
        ("distill_core/builtin/x.py", "from podd_plugin import poco"),
        ("podd_plugin/x.py", "from registry import InputError"),
        ("podd_plugin/x.py", "from distill_core.geometry import Boxes"),
        ("podd_plugin/x.py", "import distill_core"),
        ("podd_plugin/x.py", "from distill_core import plugin_tools"),
    ],
)
def test_the_check_finds_every_wrong_import(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("registry/x.py", "import os\nfrom registry.errors import InputError"),
        ("registry/x.py", "name = 'distill'"),
        ("distill_core/x.py", "import torch\nfrom registry import Plugins"),
        ("distill_core/builtin/x.py", "from distill_core.builtin.images import Images"),
        ("distill_core/builtin/x.py", "from .images import Images"),
        ("podd_plugin/x.py", "from distill_core.plugin import Boxes\nimport torch"),
        ("podd_plugin/x.py", "from distill_core import plugin"),
        ("podd_plugin/x.py", "from podd_plugin.poco import Poco"),
    ],
)
def test_the_check_allows_what_is_right(path: str, source: str) -> None:
    assert violations(path, source) == []


def component_names() -> set[str]:
    return {name for catalogue in discover().catalogues.values() for name in catalogue}


def named_components(path: str, source: str, names: set[str]) -> set[str]:
    return {word for word in literals(source) & names if (Path(path).name, word) not in HOMONYMS}


def test_no_component_is_named_in_the_command_line() -> None:
    names = component_names() - {"none"}  # also the word for an absent value
    assert len(names) > 20
    found = {
        path: named
        for path, source in sources("distill_core/cli").items()
        if (named := named_components(path, source, names))
    }
    assert found == {}


def test_the_check_for_names_can_fail() -> None:
    source = '"""Default: poco."""\ndef f(orderer="poco"):\n    "poco"\n    return f"{orderer}"\n'
    assert named_components("distill_core/cli/run.py", source, {"poco", "images"}) == {"poco"}
    assert named_components("distill_core/cli/run.py", '"""poco"""', {"poco"}) == set()


def test_the_homonyms_are_still_needed() -> None:
    files = sources("distill_core/cli")
    for name, word in HOMONYMS:
        assert word in literals(files[f"distill_core/cli/{name}"])


IMPORT = (
    "import json, sys\n"
    "__import__(sys.argv[1])\n"
    "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("registry", {"torch", "numpy", "pydantic", "click", "distill_core"}),
        ("distill_core", {"torch", "numpy", "pydantic", "click", "podd_plugin"}),
        ("distill_core.plugin", {"torch", "numpy", "pydantic", "podd_plugin"}),
        ("distill_core.discovery", {"torch", "numpy", "pydantic", "podd_plugin"}),
        ("distill_core.cli", {"torch", "numpy", "pydantic", "rich", "podd_plugin"}),
        ("distill_core.builtin.plugin", {"torch", "numpy", "pydantic", "podd_plugin"}),
        ("podd_plugin.plugin", {"torch", "numpy", "pydantic", "open_clip"}),
    ],
)
def test_what_a_fresh_process_imports(module: str, absent: set[str]) -> None:
    done = process("-c", IMPORT, module)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) & absent == set()


def test_the_fresh_process_check_can_fail() -> None:
    assert "click" in json.loads(process("-c", IMPORT, "distill_core.cli").stdout)

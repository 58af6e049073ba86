"""The house: which rooms there are, and what each may import, read from the source of every file.

`docs/architecture.md` shows the picture.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from distill_core.config.discovery import discover
from tests.distill_core.cli.fakes import ROOT, process
from tests.import_graph import OURS, circles, import_graph, module_name, modules, sources

# From the bottom up; what stands on one line is on one floor, and does not import each other.
LAYERS = (
    ("system", "hookspecs", "contracts"),
    ("config",),
    ("data", "layout", "distributed"),
    ("engine",),
    ("training",),
    ("evaluation", "artefact"),
    ("run",),
    ("report", "export"),
    ("commands",),
    ("api", "testing", "plugin"),
    ("cli",),
)
FLOOR = {room: floor for floor, rooms in enumerate(LAYERS) for room in rooms}
CORE = {"contracts", "hookspecs", "system"}  # import the registry alone
STRANGERS = {"distill_core.builtin", "podd_plugin"}  # import the face for plugins alone
MOST_ENTRIES = 22

# A word that names a component and is something else too, with the reason.
HOMONYMS = {
    ("export.py", "images"): "the format of pictures, in `distill export --format`",
}


def room_of(module: str) -> str:
    """Return the room of a module of the core.

    >>> room_of("distill_core.run.loop"), room_of("distill_core.plugin"), room_of("distill_core")
    ('run', 'plugin', '')
    """
    return module.split(".")[1] if "." in module else ""


def imports_within(name: str, top: str) -> bool:
    return name == top or name.startswith(f"{top}.")


def violations(path: str, source: str) -> list[str]:
    """Name the imports of one file that its place in the house does not allow.

    Args:
        path: the file, from the root of the checkout, as "distill_core/run/loop.py".
        source: its text.
    """
    module = module_name(path)
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    # The hooks name the contracts of their kinds as text, which is imported when one is made.
    strings = module != "distill_core.hookspecs"
    names = set(modules(source, package, strings=strings))
    return [f"{path} imports {name}" for name in sorted(names) if not allowed(module, name)]


def allowed(module: str, name: str) -> bool:
    """Say whether a module may import a name."""
    top = name.split(".", maxsplit=1)[0]
    if top not in OURS:
        return not (top == "torch" and imports_within(module, "registry"))
    home = next((each for each in (*STRANGERS, "registry") if imports_within(module, each)), None)
    if home is not None:
        face = home in STRANGERS and imports_within(name, "distill_core.plugin")
        return face or imports_within(name, home)
    if imports_within(name, "registry") or name == "distill_core.__version__":
        return True
    if any(imports_within(name, each) for each in STRANGERS):
        return False
    here, there = room_of(module), room_of(name)
    return here in {"", there} or FLOOR.get(there, MOST_ENTRIES) < lowest_above(here)


def lowest_above(room: str) -> int:
    """Return the first floor that a room may not import from."""
    if room == "__main__":
        return len(LAYERS)
    return 0 if room in CORE else FLOOR.get(room, 0)


@pytest.mark.parametrize("package", OURS)
def test_every_file_keeps_to_its_layer(package: str) -> None:
    files = sources(ROOT, package)
    assert [fault for path, text in files.items() for fault in violations(path, text)] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("registry/x.py", "import torch"),
        ("registry/x.py", "def f():\n    from torch.nn import Linear"),
        ("registry/x.py", "from distill_core.data import prepare"),
        ("registry/x.py", "from podd_plugin.poco import Poco"),
        ("distill_core/run/x.py", "import podd_plugin.poco"),
        ("distill_core/run/x.py", "from distill_core.builtin.representations import images"),
        ("distill_core/run/x.py", "from distill_core import builtin"),
        ("distill_core/cli/x.py", "from ..builtin.labelers.soft import Soft"),
        ("distill_core/run/x.py", "name = 'distill_core.builtin.labelers.soft:Soft'"),
        ("distill_core/builtin/x.py", "from podd_plugin import poco"),
        ("distill_core/builtin/datasets/x.py", "from distill_core.system.cache import cache_dir"),
        ("distill_core/builtin/x.py", "from registry import InputError"),
        ("podd_plugin/x.py", "from registry import InputError"),
        ("podd_plugin/x.py", "from distill_core.contracts.geometry import Boxes"),
        ("podd_plugin/x.py", "import distill_core"),
        ("podd_plugin/x.py", "from distill_core import plugin_tools"),
        # upwards
        ("distill_core/engine/x.py", "from distill_core.training.train import train"),
        ("distill_core/run/x.py", "def f():\n    from distill_core.commands import bench"),
        ("distill_core/commands/x.py", "from distill_core.cli.tables import print_rows"),
        ("distill_core/data/x.py", "if TYPE_CHECKING:\n    from distill_core.run.loop import Loop"),
        # siblings
        ("distill_core/data/x.py", "from distill_core.layout.labels import ItemTable"),
        ("distill_core/evaluation/x.py", "from distill_core.artefact.artefact import load"),
        ("distill_core/testing/x.py", "from distill_core.plugin import Boxes"),
        # the minimal core
        ("distill_core/contracts/x.py", "from distill_core.system.files import read_tensors"),
        ("distill_core/system/x.py", "from distill_core.hookspecs import KINDS"),
        ("distill_core/hookspecs.py", "from distill_core.contracts.data import DataSpec"),
        # a room that is not in the plan
        ("distill_core/utils/x.py", "from distill_core.system.files import read_tensors"),
    ],
)
def test_the_check_finds_every_wrong_import(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("registry/x.py", "import os\nfrom registry.errors import InputError"),
        ("distill_core/run/x.py", "import torch\nfrom registry import Plugins"),
        ("distill_core/run/x.py", "from distill_core.evaluation.judge import judge"),
        ("distill_core/run/x.py", "from distill_core import __version__"),
        ("distill_core/builtin/labelers/x.py", "from distill_core.builtin.labelers import soft"),
        ("distill_core/builtin/x.py", "from distill_core.plugin import Boxes"),
        ("podd_plugin/x.py", "from distill_core.plugin import Boxes\nimport torch"),
        ("podd_plugin/x.py", "from distill_core import plugin"),
        ("podd_plugin/x.py", "from podd_plugin.poco import Poco"),
    ],
)
def test_the_check_allows_what_is_right(path: str, source: str) -> None:
    assert violations(path, source) == []


def test_no_circle_of_imports_between_files() -> None:
    files = {path: text for package in OURS for path, text in sources(ROOT, package).items()}
    assert circles(import_graph(files)) == []


@pytest.mark.parametrize("how", ["{}", "def f():\n    {}", "if TYPE_CHECKING:\n    {}"])
def test_the_check_finds_a_circle_of_files(how: str) -> None:
    files = {
        "distill_core/run/a.py": "from distill_core.run import b",
        "distill_core/run/b.py": "from distill_core.run.c import something",
        "distill_core/run/c.py": how.format("from distill_core.run.a import something"),
        "distill_core/run/d.py": "from distill_core.run.a import something",
    }
    found = circles(import_graph(files))
    assert found == [[f"distill_core.run.{name}" for name in "abc"]]


def entries() -> set[str]:
    """Return what `ls distill_core` shows of a checkout, without the marker for type checkers."""
    hidden = {"py.typed", "__pycache__"}
    return {path.name for path in (ROOT / "distill_core").iterdir()} - hidden


def test_the_core_can_be_seen_at_a_glance() -> None:
    rooms = {name.removesuffix(".py") for name in entries()}
    assert len(rooms) <= MOST_ENTRIES
    assert rooms == {*FLOOR, "builtin", "__init__", "__main__"}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_other_pages_lead_to_the_picture(page: str) -> None:
    assert "](docs/architecture.md)" in (ROOT / page).read_text()


def test_the_picture_shows_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    picture = text[text.index("distill_core/\n") :].partition("```")[0]
    # The first column: names that end in "/" or ".py", indented by two spaces.
    columns = re.findall(r"^  ((?:[\w.]+(?:/|\.py)(?: +|$))+)", picture, flags=re.MULTILINE)
    assert {name.strip("/") for column in columns for name in column.split()} == entries()


@pytest.mark.parametrize("room", sorted(path for path in FLOOR if path not in {"hookspecs"}))
def test_each_room_says_what_lives_there_and_what_it_may_import(room: str) -> None:
    package = ROOT / "distill_core" / room / "__init__.py"
    if not package.exists():
        assert (ROOT / "distill_core" / f"{room}.py").exists()
        return
    text = ast.get_docstring(ast.parse(package.read_text())) or ""
    assert "May import:" in text


def test_the_registry_says_nothing_of_distillation() -> None:
    named = [path for path, text in sources(ROOT, "registry").items() if "distill" in text.lower()]
    assert named == []


# What the core says to people of an option of our components: an example, or a way out.
ADVICE = {
    "distill_core/cli/experts.py": {"algo.experts"},
    "distill_core/config/settings.py": {"algo.window"},
    "distill_core/commands/sweep.py": {"algo.window"},
    "distill_core/contracts/synthetic.py": {"repr.size"},
    "distill_core/data/augment.py": {"algo.augment"},
    "distill_core/engine/engine.py": {"backbone.norm", "algo.batch"},
    "distill_core/engine/memory_limit.py": {"backbone.width", "algo.batch", "algo.window"},
    "distill_core/layout/class_names.py": {"repr.classes"},
    "distill_core/run/plan.py": {"labeler.stored"},  # of the core itself, for every labeler
    "distill_core/run/save_on_failure.py": {"backbone.width"},
    "distill_core/system/out_of_memory.py": {"backbone.width"},
    "distill_core/training/expert_cache.py": {"backbone.norm", "algo.expert_lr", "labeler.lr"},
}
NAMED_OPTION = re.compile(r"\b(?:repr|labeler|orderer|algo|dataset|backbone)\.[a-z_]+")


def core_files() -> dict[str, str]:
    files = sources(ROOT, "distill_core")
    return {path: text for path, text in files.items() if room_of(module_name(path)) in FLOOR}


def reads_of_options(source: str) -> list[str]:
    """Return where a file looks into the options of a component: `options["algo"].window`, or the
    like by a name, by `get` or by `in`."""
    tree = ast.parse(source)
    held = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target, value in _assigned(node)
        if isinstance(target, ast.Name) and _is_options(value, set())
    }
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if (
            isinstance(node, ast.Attribute)
            and _is_options(node.value, held)
            and not node.attr.startswith("model_")
        )
        or (isinstance(node, ast.Subscript) and _is_options(node.value, held))
        or (
            isinstance(node, ast.Compare)
            and isinstance(node.ops[0], (ast.In, ast.NotIn))
            and _is_options(node.comparators[0], held)
        )
    ]


def _assigned(node: ast.Assign) -> list[tuple[ast.expr, ast.expr]]:
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=False))
    return [(target, value)]


def _is_options(node: ast.expr, held: set[str]) -> bool:
    """Say whether an expression is `....options[...]`, or a name that holds one."""
    if isinstance(node, ast.Name):
        return node.id in held
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "options"
    )


def test_the_core_looks_into_no_options_of_a_component() -> None:
    found = {path: read for path, text in core_files().items() if (read := reads_of_options(text))}
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "config.options['algo'].window",
        "x = config.options['algo']['window']",
        "algo = self.config.options['algo']\nalgo.get('batch')",
        "engine, algo = assembly.engine, assembly.config.options['algo']\nalgo.batch",
        "'mode' in config.options['labeler']",
    ],
)
def test_the_check_of_options_finds_them(source: str) -> None:
    assert reads_of_options(source)


def test_the_core_names_options_of_components_in_advice_alone() -> None:
    found = {
        path: named
        for path, text in core_files().items()
        if (named := {name for each in literals(text) for name in NAMED_OPTION.findall(each)})
    }
    assert found == ADVICE


def literals(source: str) -> set[str]:
    """Return every string in a file that is not a docstring."""
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


def component_names() -> set[str]:
    return {name for catalogue in discover().catalogues.values() for name in catalogue}


def named_components(path: str, source: str, names: set[str]) -> set[str]:
    return {word for word in literals(source) & names if (Path(path).name, word) not in HOMONYMS}


def test_no_component_is_named_in_the_command_line() -> None:
    names = component_names() - {"none"}  # also the word for an absent value
    assert len(names) > 20
    found = {
        path: named
        for path, source in sources(ROOT, "distill_core/cli").items()
        if (named := named_components(path, source, names))
    }
    assert found == {}


def test_the_check_for_names_can_fail() -> None:
    source = '"""Default: poco."""\ndef f(orderer="poco"):\n    "poco"\n    return f"{orderer}"\n'
    assert named_components("distill_core/cli/run.py", source, {"poco", "images"}) == {"poco"}
    assert named_components("distill_core/cli/run.py", '"""poco"""', {"poco"}) == set()


def test_the_homonyms_are_still_needed() -> None:
    files = sources(ROOT, "distill_core/cli")
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
        ("distill_core.config.discovery", {"torch", "numpy", "pydantic", "podd_plugin"}),
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

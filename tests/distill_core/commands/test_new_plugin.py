"""One new plugin of each kind: written, found as if installed, checked, and run together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_core.cli import main
from distill_core.commands import new_plugin as new_plugin_module
from distill_core.commands.new_plugin import LONGEST, new_plugin
from distill_core.config.discovery import discover
from distill_core.hookspecs import API_VERSION, KINDS
from registry import EnvironmentFault, InputError
from tests.distill_core.cli.fakes import ROOT, distill, process
from tests.forks import Fork

NAMES = {kind.name: f"own_{kind.name}" for kind in KINDS}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one new package of each kind, and the metadata of all of them."""
    folder = tmp_path_factory.mktemp("packages")
    plugins = discover()
    for kind in KINDS:
        project_file = new_plugin(NAMES[kind.name], kind, folder, plugins)[0]
        project = tomllib.loads(project_file.read_text())["project"]
        info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        ((name, target),) = project["entry-points"]["distill"].items()
        (info / "entry_points.txt").write_text(f"[distill]\n{name} = {target}\n")
    return folder


@pytest.fixture(scope="module")
def site(packages: Path) -> list[str]:
    """What must be on the path for all of them to be as if installed."""
    return [str(packages), *(str(each) for each in packages.glob("distill-*"))]


def call_with(site: list[str], call: Callable[[list[str]], object], words: list[str]) -> None:
    """What a fork does."""
    sys.path[:0] = site
    sys.exit(call(words))


def pytest_of(words: list[str]) -> int:
    return int(pytest.main(words))


def distill_of(words: list[str]) -> None:
    main(words)


EVERYTHING = {"DISTILL_LOAD_PLUGINS": ""}


def test_all_keep_their_contracts(packages: Path, site: list[str], tmp_path: Path) -> None:
    tests = [str(each / "tests") for each in sorted(packages.glob("distill-*"))]
    assert len(tests) == 6
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "-c", os.devnull]
    words = [*options, "--rootdir", str(packages), *tests]
    process = Fork(call_with, site, pytest_of, words, folder=tmp_path, environment=EVERYTHING)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, printed + errors
    assert "6 passed" in printed


def test_listing_them_imports_none_of_what_is_slow(site: list[str]) -> None:
    code = (
        "import sys; from distill_core.config.discovery import discover; plugins = discover(); "
        "print(sorted(n for each in plugins.catalogues.values() for n in each if 'own_' in n)); "
        "print(sorted({'torch', 'pydantic'} & set(sys.modules)))"
    )
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([*site, str(ROOT), *([inherited] if inherited else [])])
    done = process("-c", code, **EVERYTHING, PYTHONPATH=path)
    assert done.stdout.splitlines() == [str(sorted(NAMES.values())), "[]"], done.stderr


def test_all_run_together(packages: Path, site: list[str], tmp_path: Path) -> None:
    chosen = [word for kind in KINDS for word in (f"--{kind.option}", NAMES[kind.name])]
    small = ["evaluate.nets=1", "evaluate.steps=5", "evaluate.full_steps=5"]
    out = packages / "run"
    words = ["run", *chosen, "--ipc", "1", "--steps", "2", "--out", str(out)]
    words += [word for each in small for word in ("-o", each)]
    process = Fork(call_with, site, distill_of, words, folder=tmp_path, environment=EVERYTHING)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, printed + errors
    manifest = (out / "manifest.json").read_text()
    for name in NAMES.values():
        assert f'"distill-{name.replace("_", "-")}"' in manifest


def test_the_style_is_ours_even_with_the_longest_names(packages: Path, tmp_path: Path) -> None:
    """By our rules, but where the author stands: there `distill_core` is an installed package."""
    plugins = discover()
    for kind in KINDS:
        new_plugin(kind.name.ljust(LONGEST, "w"), kind, tmp_path, plugins)
    sources = [str(each) for folder in (packages, tmp_path) for each in folder.glob("distill-*")]
    assert len(sources) == 12
    ours = ["--config", ROOT / "pyproject.toml", "--config", "lint.isort.known-first-party = []"]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *ours, *sources],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_imports_only_what_is_promised(packages: Path) -> None:
    sources = [path.read_text() for path in packages.rglob("*.py")]
    imported = {
        name for text in sources for name in re.findall(r"(?:from|import) (distill_core\S*)", text)
    }
    assert imported == {"distill_core.plugin", "distill_core.testing"}


def test_it_says_which_api_it_was_written_for(packages: Path) -> None:
    for module in packages.glob("distill-*/*_plugin.py"):
        assert f'DISTILL_API = "{API_VERSION}"' in module.read_text()


@pytest.mark.parametrize(
    "name", ["", "9lives", "My", "a-b", "../up", "a__b", "a_", "über", "a" * (LONGEST + 1), "a\n"]
)
def test_a_bad_name_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        new_plugin(name, KINDS[2], tmp_path, discover(only=[]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["poco", "podd"])
def test_a_name_that_is_taken_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"taken by plugin podd "):
        new_plugin(name, KINDS[2], tmp_path, discover())
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_exists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'distill_core' is installed"):
        new_plugin("core", KINDS[2], tmp_path, discover(only=[]))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "distill-mine").mkdir()
    with pytest.raises(InputError, match="is there already"):
        new_plugin("mine", KINDS[2], tmp_path, discover(only=[]))
    assert list((tmp_path / "distill-mine").iterdir()) == []


def test_one_that_was_killed_half_way_is_begun_again(tmp_path: Path) -> None:
    if not (pid := os.fork()):
        new_plugin_module.write_atomically = kill_at_the_third(new_plugin_module.write_atomically)
        new_plugin("mine", KINDS[2], tmp_path, discover(only=[]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "distill-mine").exists()
    assert len(new_plugin("mine", KINDS[2], tmp_path, discover(only=[]))) == 5
    assert os.listdir(tmp_path) == ["distill-mine"]


def kill_at_the_third(write: Callable[[Path, bytes], None]) -> Callable[[Path, bytes], None]:
    calls: list[Path] = []

    def patched(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, data)

    return patched


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault):
        new_plugin("mine", KINDS[2], tmp_path / "file", discover(only=[]))


def test_the_command_writes_and_says_what_next(tmp_path: Path) -> None:
    done = distill("new-plugin", "mine", "--kind", "orderers", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "distill_mine.py" in done.output
    package = tmp_path / "distill-mine"
    assert f"Next: `python -m pip install -e {package}`" in done.output
    assert f"`python -m pytest {package}` checks it" in done.output


def test_a_name_with_hyphens_has_underscores_in_python(tmp_path: Path) -> None:
    done = distill("new-plugin", "my-order", "--kind", "orderer", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "The orderer is called my_order: names in Python have no hyphens." in done.output
    project = tomllib.loads((tmp_path / "distill-my-order" / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["distill"] == {"my_order": "distill_my_order_plugin"}

"""Plugins of other people: one that works and one that does not, found as if installed.

Nothing is installed here. An installer writes a folder of metadata beside the module; these
tests write the same folder from the package's own project file and put both on the path.
`.ci/run` installs the packages for real.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tomllib
from pathlib import Path

import pytest

from distill_core.hookspecs import KINDS
from tests.distill_core.cli.fakes import ROOT, process
from tests.forks import Fork

PACKAGES = Path(__file__).parent / "third_party"
GUIDE = ROOT / "docs" / "guide" / "write-a-plugin.md"


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """An environment for subprocesses in which both packages are found."""
    path = [str(tmp_path)]
    for package in ("distill_alphabetical", "distill_broken"):
        project = tomllib.loads((PACKAGES / package / "pyproject.toml").read_text())["project"]
        info = tmp_path / f"{package}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        ((name, target),) = project["entry-points"]["distill"].items()
        (info / "entry_points.txt").write_text(f"[distill]\n{name} = {target}\n")
        path.append(str(PACKAGES / package))
    inherited = os.environ.get("PYTHONPATH")
    path += [str(ROOT), *([inherited] if inherited else [])]
    return {"PYTHONPATH": os.pathsep.join(path), "DISTILL_LOAD_PLUGINS": ""}


def lines(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("\t")] for line in text.splitlines()]


def test_the_orderer_is_listed_with_its_version(site: dict[str, str]) -> None:
    done = process("-m", "distill_core", "list", "orderers", **site)
    assert done.returncode == 0
    row = [
        "orderer",
        "alphabetical",
        "alphabetical",
        "distill-alphabetical 0.3.0",
        "classes by name",
    ]
    assert row in lines(done.stdout)


def test_its_options_are_shown(site: dict[str, str]) -> None:
    done = process("-m", "distill_core", "show", "orderer", "alphabetical", **site)
    assert done.returncode == 0
    said = "\norderer.reverse  true | false, default: false\n    from Z to A\n"
    assert said in done.stdout


def test_the_broken_plugin_is_reported_and_hurts_nobody(site: dict[str, str]) -> None:
    listed = process("-m", "distill_core", "list", "orderers", **site)
    assert "1 not loaded: broken. `distill plugins` says why." in listed.stderr
    shown = process("-m", "distill_core", "plugins", **site)
    assert shown.returncode == 0
    row = ["alphabetical", "distill-alphabetical 0.3.0", "distill_alphabetical", "1.0"]
    assert [*row, "orderer: alphabetical"] in lines(shown.stdout)
    assert (
        "broken (distill-broken 0.0.1) is broken:\n"
        "  ImportError: this plugin is broken on purpose\n"
    ) in shown.stdout
    traced = process("-m", "distill_core", "plugins", "--traceback", **site)
    assert 'raise ImportError("this plugin is broken on purpose")' in traced.stdout


def test_an_unknown_name_mentions_the_broken_plugin(site: dict[str, str]) -> None:
    done = process("-m", "distill_core", "show", "orderer", "alphabetic", **site)
    assert done.returncode == 2
    assert "Did you mean 'alphabetical'?" in done.stderr
    assert "(failed to load: broken)" in done.stderr
    assert "Traceback" not in done.stderr


def test_loading_can_be_restricted(site: dict[str, str]) -> None:
    only = {**site, "DISTILL_LOAD_PLUGINS": "alphabetical"}
    done = process("-m", "distill_core", "plugins", **only)
    assert [row[0] for row in lines(done.stdout)][:2] == ["plugin", "alphabetical"]
    assert "broken" not in done.stdout


def test_it_keeps_the_contract(site: dict[str, str], tmp_path: Path) -> None:
    test = PACKAGES / "distill_alphabetical" / "tests"
    words = ["-q", "-p", "no:cacheprovider", str(test)]
    done = Fork(be_pytest, site["PYTHONPATH"], words, folder=tmp_path / "out", environment=site)
    printed, errors = done.communicate(timeout=120)
    assert done.returncode == 0, printed + errors


def be_pytest(path: str, words: list[str]) -> None:
    """Be pytest, with further folders on the path."""
    sys.path[:0] = path.split(os.pathsep)
    sys.exit(pytest.main(words))


def test_the_guide_names_every_hook() -> None:
    text = GUIDE.read_text()
    for kind in KINDS:
        assert f"| {kind.name} | `{kind.hook}` |" in text
    assert "`distill_presets`" in text


def test_what_an_installer_writes_is_what_the_tests_write() -> None:
    """Where the package is really installed, as in CI, its metadata are the ones assumed here."""
    try:
        found = importlib.metadata.distribution("distill-alphabetical")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("distill-alphabetical is not installed here; .ci/run installs it")
    (point,) = found.entry_points
    assert (point.group, point.name, point.value) == (
        "distill",
        "alphabetical",
        "distill_alphabetical",
    )

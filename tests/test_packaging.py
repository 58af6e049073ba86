"""What a wheel is made of; `.ci/package` builds one, and `.ci/run` runs it from an empty folder."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import distill_core
from tests.distill_core.cli.fakes import ROOT

PACKAGES = ("registry", "distill_core", "podd_plugin")
MADE = {"__pycache__", ".mypy_cache", ".ruff_cache"}


def project() -> dict[str, dict[str, dict[str, list[str]]]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found: dict[str, dict[str, dict[str, list[str]]]] = tomllib.load(file)
    return found


def test_every_file_of_the_packages_goes_into_the_wheel() -> None:
    patterns = project()["tool"]["setuptools"]["package-data"]
    missing = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".py" and not MADE & set(path.parts)
        if not any(matches(path.relative_to(ROOT / package), each) for each in patterns[package])  # type: ignore[index]
    ]
    assert missing == []


def matches(path: Path, pattern: str) -> bool:
    """A * does not reach into folders, as for setuptools."""
    parts, wanted = path.parts, pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_citation_has_the_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", text, re.MULTILINE) == [distill_core.__version__]

"""Errors: each says what to do next, and the options and extras that texts name exist."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from distill_core.config.discovery import discover
from distill_core.config.run_config import SECTIONS, RunConfig
from distill_core.hookspecs import KINDS
from tests.distill_core.cli.fakes import ROOT

PACKAGES = ("registry", "distill_core", "podd_plugin")
ERRORS = {
    *("InputError", "OptionError", "UnknownNameError", "ContractError", "EnvironmentFault"),
    *("ApiVersionError", "HypergradientError", "DivergenceError", "RankLostError"),
}
# Its next step is added where it is caught.
EXCEPTIONS = {("distill_core/run/save_on_failure.py", "RankLostError")}


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text("utf-8"))


def test_every_error_says_what_to_do_next() -> None:
    silent, seen = [], 0
    for path, tree in _trees():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            name = node.func.id
            if name in ERRORS:
                seen += 1
                given = {keyword.arg for keyword in node.keywords}
                if "next" not in given and (path.as_posix(), name) not in EXCEPTIONS:
                    silent.append(f"{path}:{node.lineno}: {name}")
    assert silent == []
    assert seen > 100


def test_options_that_texts_name_exist() -> None:
    plugins = discover()
    known = {f"{section}.{name}" for section, model in SECTIONS.items() for name in _fields(model)}
    known |= {f"run.{name}" for name in RunConfig.model_fields}
    for kind in KINDS:
        for name in plugins[kind.name]:
            model = plugins[kind.name].options(name)
            known |= {f"{kind.option}.{field}" for field in _fields(model)}
    known.add("kind.field")  # stands for any
    wrong, seen = [], 0
    for path, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for option in re.findall(r"-o ([a-z]+\.[a-z0-9_]+)(?![a-z0-9_])", node.value):
                    seen += 1
                    if option not in known:
                        wrong.append(f"{path}:{node.lineno}: {option}")
    assert wrong == []
    assert seen > 50


def test_extras_that_texts_tell_to_install_exist() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    known = {f"{project['name']}[{extra}]" for extra in project["optional-dependencies"]}
    texts = [path.read_text("utf-8") for each in PACKAGES for path in (ROOT / each).rglob("*.py")]
    told = [each for text in texts for each in re.findall(r"pip install '([^']+)'", text)]
    assert len(told) == 2
    assert {*told} <= known


def _fields(model: type[BaseModel]) -> list[str]:
    return list(model.model_fields)

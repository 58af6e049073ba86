"""What is cited: every source of ours has its BibTeX, and plugins bring their own."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from distill_core.config.discovery import discover
from distill_core.config.sources import bibtex, sources_of
from distill_core.hookspecs import KINDS
from registry.bibtex import read_bibtex
from registry.options import written
from tests.distill_core.small_run import installed

ROOT = Path(__file__).parents[3]
PLUGIN = '''
from pydantic import Field

from distill_core.plugin import Component, Options, about, hookimpl


class Settings(Options):
    start: str = Field("own", **about(source="own: A Paper of Mine; cut: arXiv:2205.14959"))
    tuned: bool = Field(False, **about(source="A Paper of Mine"))


@hookimpl
def distill_orderers():
    names = ("known", "unknown", "silent")
    return [Component(name, f"cited_plugin:{name}", Settings) for name in names]


def known(options):
    """Order.

    Source: Own 2026, A Paper of Mine.
    """


def unknown(options):
    """Order.

    Source: a talk, 50 % of it.
    """


def silent(options):
    """Order."""
'''


def test_every_source_of_ours_has_an_entry() -> None:
    """Sources are facts of papers; one without BibTeX would be cited as a note."""
    plugins = installed()
    ours = {kind.option: list(plugins[kind.name]) for kind in KINDS}
    found = [
        sources_of({option: {"name": name}}, plugins)[0]
        for option, names in ours.items()
        for name in names
    ]
    assert [each.name for each in found if each.source and not each.works] == []
    assert sum(bool(each.works) for each in found) > 20


def test_every_source_of_our_options_has_an_entry() -> None:
    """An option's source without one would be left out without a word."""
    plugins = installed()
    works = [
        work
        for module in ("distill_core/builtin", "podd_plugin")
        for work in read_bibtex((ROOT / module / "sources.bib").read_text(encoding="utf-8"))
    ]
    known = {work.fields.get("eprint") for work in works}
    numbers = {
        number
        for kind in KINDS
        for name in plugins[kind.name]
        for field in plugins[kind.name].options(name).model_fields.values()
        for number in re.findall(r"arXiv:([\d.]+\d)", str(field.json_schema_extra))
    }
    assert len(numbers) >= 8
    assert numbers <= known


@pytest.mark.parametrize(
    ("option", "name", "options", "keys"),
    [
        ("repr", "poster", {"canvas": "pixels", "downsample": 1, "stored": "float32"}, []),
        ("repr", "poster", {"canvas": "lowrank"}, []),
        ("repr", "poster", {"canvas": "gaussians"}, ["jiang2025beyond"]),
        ("repr", "poster", {"canvas": "frequencies"}, ["shin2023frequency"]),
        ("repr", "poster", {"canvas": "bases"}, ["deng2022remember"]),
        ("repr", "poster", {"downsample": 2}, ["kim2022dataset"]),
        ("repr", "images", {"downsample": 2}, ["kim2022dataset"]),
        ("repr", "images", {"stored": "uint8", "scales": "channel"}, ["bengio2013estimating"]),
        (
            "labeler",
            "soft",
            {"stored": "uint8", "scales": "learned"},
            ["bengio2013estimating", "esser2020learned"],
        ),
        ("algo", "ratbptt", {"curriculum": "random", "augment": "flip_rotate"}, []),
        ("algo", "ratbptt", {"curriculum": "adaptive"}, ["li2025beyond"]),
        ("algo", "ratbptt", {"augment": "dsa"}, ["zhao2021siamese"]),
        ("algo", "dm", {"augment": "dsa"}, ["zhao2021siamese"]),
        ("backbone", "convnet", {"growth": 2}, ["zhou2022dataset"]),
        ("backbone", "convnet", {"activation": "softplus", "sharpness": 60.0}, ["loo2023dataset"]),
        ("backbone", "convnet", {"init": "lecun", "growth": 1}, ["zhou2022dataset"]),
        ("repr", "coreset", {"method": "random"}, []),
        ("repr", "coreset", {"method": "herding"}, ["welling2009herding"]),
        ("repr", "coreset", {"method": "kcenter"}, ["sener2018active"]),
        ("repr", "coreset", {"method": "forgetting"}, ["toneva2019empirical"]),
    ],
)
def test_options_cite_what_their_values_come_from(
    option: str, name: str, options: dict[str, object], keys: list[str]
) -> None:
    _, *of_options = sources_of({option: {"name": name, "options": options}}, installed())
    assert [work.key for each in of_options for work in each.works] == keys


def test_options_that_are_left_as_they_are_cite_values_alone() -> None:
    """As manifests have defaults: the only works are of values which name theirs."""
    plugins = installed()
    cited = {
        each.name
        for kind in KINDS
        for name in plugins[kind.name]
        for options in [written(plugins[kind.name].options(name).model_construct())]
        for each in sources_of({kind.option: {"name": name, "options": options}}, plugins)[1:]
    }
    assert cited == {"algo.augment=dsa", "labeler.augment=dsa"}


def test_sources_of_values_name_values_that_there_are() -> None:
    """A source of a value that no option can have would never be cited."""
    plugins = installed()
    models = {plugins[kind.name].options(name) for kind in KINDS for name in plugins[kind.name]}
    named = {
        (model, name, value)
        for model in models
        for name, field in model.model_fields.items()
        for value in re.findall(
            r"(?:^|; )(\w+): ", str((field.json_schema_extra or {}).get("source"))
        )
    }
    assert len(named) > 10
    for model, name, value in sorted(named, key=str):
        model.model_validate({name: value}, strict=False)


def test_the_option_stands_in_the_comment() -> None:
    used = sources_of({"repr": {"name": "poster", "options": {"canvas": "gaussians"}}}, installed())
    assert "% option repr.canvas=gaussians: GSDD, Jiang et al. 2025" in bibtex(used)


def test_each_work_is_written_once() -> None:
    components = {"repr": {"name": "poster"}, "labeler": {"name": "poddl"}}
    text = bibtex(sources_of(components, installed()))
    keys = [work.key for work in read_bibtex(text)]
    assert keys == ["distill", "shul2024distilling"]
    assert "% labeler poddl: Shul et al. 2024" in text


def test_a_plugin_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cited_plugin.py").write_text(PLUGIN)
    (tmp_path / "sources.bib").write_text("@misc{own2026,\n  title = {A Paper of Mine},\n}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = importlib.import_module("cited_plugin")
    monkeypatch.delitem(sys.modules, "cited_plugin")
    plugins = discover(extra=[("own", plugin)], only=[])
    beside_ours = discover(extra=[("own", plugin)], only=["builtin"])
    used = [
        sources_of({"orderer": {"name": name}}, plugins)[0]
        for name in ("known", "unknown", "silent", "gone")
    ]
    assert [[work.key for work in each.works] for each in used] == [["own2026"], [], [], []]
    for options, works in (
        ({"start": "own"}, ["own2026"]),
        ({"start": "cut", "tuned": False}, ["kim2022dataset"]),  # of a plugin that is installed
        ({"start": "far", "tuned": True}, ["own2026"]),
        ({"start": "far"}, []),
    ):
        choice = {"orderer": {"name": "silent", "options": options}}
        _, *of_options = sources_of(choice, beside_ours)
        assert [work.key for each in of_options for work in each.works] == works
    text = bibtex(tuple(used))
    assert r"note = {a talk, 50 \% of it.}" in text
    assert "% orderer silent: names no source" in text
    assert "% orderer gone: install its plugin" in text

"""What is cited: every source of ours has its BibTeX, and plugins bring their own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from distill_core.config.discovery import discover
from distill_core.config.sources import bibtex, sources_of
from distill_core.hookspecs import KINDS
from registry.bibtex import read_bibtex
from tests.distill_core.small_run import installed

PLUGIN = '''
from distill_core.plugin import Component, hookimpl


@hookimpl
def distill_orderers():
    return [Component(name, f"cited_plugin:{name}") for name in ("known", "unknown", "silent")]


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
    used = [
        sources_of({"orderer": {"name": name}}, plugins)[0]
        for name in ("known", "unknown", "silent", "gone")
    ]
    assert [[work.key for work in each.works] for each in used] == [["own2026"], [], [], []]
    text = bibtex(tuple(used))
    assert r"note = {a talk, 50 \% of it.}" in text
    assert "% orderer silent: names no source" in text
    assert "% orderer gone: install its plugin" in text

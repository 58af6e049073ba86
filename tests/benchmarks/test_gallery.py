"""benchmarks/gallery.py: a run becomes an entry, which loads, and a part of the page."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from distill_core.artefact.artefact import load
from distill_core.artefact.gallery import entry_folder, entry_names, read_facts, rows
from distill_core.cli.list import GALLERY
from registry import UnknownNameError
from tests.distill_core.cli.fakes import ROOT, distill

sys.path.insert(0, str(ROOT / "benchmarks"))
import gallery

RUN = ROOT / "tests/fixtures/run-v1"


def judged(folder: Path, seed: int, mean: float) -> Path:
    run = folder / f"run-{seed}"
    shutil.copytree(RUN, run)
    manifest = json.loads((run / "manifest.json").read_text())
    results = {"distilled": {"mean": mean, "std": 0.1, "accuracies": [mean, mean]}}
    (run / "manifest.json").write_text(json.dumps({**manifest, "results": results, "seed": seed}))
    return run


def test_an_entry_states_all_seeds_and_loads(tmp_path: Path) -> None:
    run, other = judged(tmp_path, 0, 0.5), judged(tmp_path, 1, 0.75)
    folder = tmp_path / "entries"
    gallery.make_entry(run, "tiny", "Tiny", [other], folder)
    assert entry_names(folder) == ["tiny"]
    facts = read_facts("tiny", folder)
    assert {seed: each["mean"] for seed, each in facts["seeds"].items()} == {"0": 0.5, "1": 0.75}
    assert rows(folder)[0][:2] == ("tiny", "62.5 ± 17.7 % (2 seeds x 2 networks)")
    assert torch.equal(load(entry_folder("tiny", folder)).images, load(RUN).images)
    assert "62.5 ± 17.7 %" in gallery.page(folder)
    assert "Distilling Datasets Into Less Than One Image" in gallery.page(folder)


def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    run, twin = judged(tmp_path, 0, 0.5), judged(tmp_path / "again", 0, 0.6)
    with pytest.raises(SystemExit, match="same seed"):
        gallery.make_entry(run, "tiny", "Tiny", [twin], tmp_path / "entries")
    other = judged(tmp_path, 1, 0.6)
    (other / "run.toml").write_text((other / "run.toml").read_text() + "\n[x]\ny = 1\n")
    with pytest.raises(SystemExit, match="other settings"):
        gallery.make_entry(run, "tiny", "Tiny", [other], tmp_path / "entries")
    assert not (tmp_path / "entries").exists()


def test_the_page_and_the_list_are_of_the_entries_that_are_there() -> None:
    assert (ROOT / "docs/gallery.md").read_text(encoding="utf-8") == gallery.page()
    listed = distill("list", GALLERY, "--json")
    assert [row["entry"] for row in json.loads(listed.stdout)] == entry_names()
    for name in entry_names():
        assert len(load(f"gallery:{name}").images)
    with pytest.raises(UnknownNameError, match="gallery entry"):
        load("gallery:nothing")

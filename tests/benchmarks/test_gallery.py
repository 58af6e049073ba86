"""benchmarks/gallery.py: a run becomes an entry, which loads, and a part of the page."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import tomli_w
import torch
from PIL import Image

from distill_core.artefact.artefact import load, load_whole
from distill_core.artefact.gallery import entry_folder, entry_names, read_facts, rows
from distill_core.cli.list import GALLERY
from distill_core.system.files import read_tensors, write_tensors
from registry import UnknownNameError
from tests.distill_core.artefact.stored_results import DECODERS, assembled, save
from tests.distill_core.cli.fakes import ROOT, distill

sys.path.insert(0, str(ROOT / "benchmarks"))
import gallery

RUN = ROOT / "tests/fixtures/run-v1"


def judged(folder: Path, seed: int, mean: float) -> Path:
    run = folder / f"run-{seed}"
    shutil.copytree(RUN, run)
    manifest = json.loads((run / "manifest.json").read_text())
    found = {"mean": mean, "std": 0.1, "accuracies": [mean, mean], "recipe": {"steps": 1234}}
    results = {"distilled": found}
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
    settings = (other / "run.toml").read_text()
    (other / "run.toml").write_text(settings.replace('lr_decay = "none"', 'lr_decay = "linear"'))
    with pytest.raises(SystemExit, match="other settings"):
        gallery.make_entry(run, "tiny", "Tiny", [other], tmp_path / "entries")
    assert not (tmp_path / "entries").exists()


def test_the_page_and_the_list_are_of_the_entries_that_are_there() -> None:
    assert (ROOT / "docs/gallery.md").read_text(encoding="utf-8") == gallery.page()
    listed = distill("list", GALLERY, "--json")
    assert [row["entry"] for row in json.loads(listed.stdout)] == entry_names()
    for name in entry_names():
        entry = load(f"gallery:{name}")
        assert len(entry.images)
        assert entry.verified
    with pytest.raises(UnknownNameError, match="gallery entry"):
        load("gallery:nothing")


def test_an_entry_names_the_source_of_data_that_were_read_from_a_folder(tmp_path: Path) -> None:
    run = judged(tmp_path, 0, 0.5)
    facts = gallery.make_entry(run, "tiny", "Tiny", [], tmp_path / "entries", dataset="cifar10")
    assert facts["dataset"] == "cifar10"
    assert "Learning Multiple Layers of Features from Tiny Images" in facts["sources"]
    for name in entry_names():
        listed = json.loads(distill("cite", f"gallery:{name}", "--json").stdout)
        (dataset,) = [each for each in listed if each["kind"] == "dataset"]
        assert dataset["works"]


def test_an_option_that_is_newer_than_a_run_has_its_default(tmp_path: Path) -> None:
    run, other = judged(tmp_path, 0, 0.5), judged(tmp_path, 1, 0.6)
    settings = (other / "run.toml").read_text()
    assert "checkpoint_minutes" in settings
    (other / "run.toml").write_text(re.sub("checkpoint_minutes = .*\n", "", settings))
    facts = gallery.make_entry(run, "tiny", "Tiny", [other], tmp_path / "entries")
    assert facts["seeds"].keys() == {"0", "1"}


@pytest.mark.parametrize("old", [False, True], ids=["run", "run of an earlier version"])
def test_an_entry_of_a_decoder_has_its_numbers_alone(old: bool, tmp_path: Path) -> None:
    """A file of format 1 has no settings: they come from the run."""
    assembly = assembled("fred", "onehot", images={**DECODERS["fred"], "stored": "bfloat16"})
    run, folder = save(assembly, tmp_path / "run").parent, tmp_path / "entries"
    settings = assembly.config.model_dump(mode="json", exclude_none=True)
    (run / "run.toml").write_text(tomli_w.dumps(settings))
    manifest = json.loads((run / "manifest.json").read_text())
    results = {"distilled": {"mean": 0.5, "std": None, "accuracies": [0.5], "recipe": {"steps": 9}}}
    if old:
        whole = load_whole(run)
        metadata = {**whole.distilled.metadata, "content": "", "format": 1, "same": {}}
        digest = write_tensors(run / "distilled.safetensors", whole.tensors, metadata)
        manifest["files"]["distilled.safetensors"] = digest
        tensors, about = read_tensors(run / "stored.safetensors")
        shapes = {name.removeprefix("data."): each for name, each in about["shapes"].items()}
        kept = {"format": 1, "type": "bfloat16", "class_grid": about["class_grid"]}
        digest = write_tensors(run / "stored.safetensors", tensors, {**kept, "shapes": shapes})
        manifest["files"]["stored.safetensors"] = digest
    (run / "manifest.json").write_text(json.dumps({**manifest, "results": results}))
    gallery.make_entry(run, "small", "Small", [], folder, note="one seed")
    entry = load(entry_folder("small", folder))
    assert (entry.path.name, entry.verified) == ("stored.safetensors", True)
    assert not (folder / "small" / "distilled.safetensors").exists()
    assert torch.equal(entry.images, load(run).images)
    assert torch.equal(entry.labels, load(run).labels)
    assert "| note | one seed |" in gallery.page(folder)


def test_a_large_picture_becomes_small(tmp_path: Path) -> None:
    noise = torch.randint(256, (500, 960, 3), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(tmp_path / "large.png")
    gallery.write_picture(tmp_path / "large.png", tmp_path)
    with Image.open(tmp_path / "poster.png") as picture:
        assert picture.size == (480, 250)
    before = (tmp_path / "large.png").stat().st_size
    assert (tmp_path / "poster.png").stat().st_size < before / 5

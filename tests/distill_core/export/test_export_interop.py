"""Exports for Hugging Face and DD-Ranking."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from string import Formatter

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from distill_core.artefact.artefact import load
from distill_core.contracts.data import RealData
from distill_core.contracts.gather import gather_boxes
from distill_core.contracts.recipes import Recipe
from distill_core.export import export
from distill_core.export.card import CARD
from distill_core.export.dd_ranking import is_exact, logits_of, top_ipc
from distill_core.testing.small import image_layout, poster_layout, small_data
from registry import InputError, OptionError
from tests.distill_core.conftest import MakeSynthetic
from tests.distill_core.small_run import save_artefact

HOSTILE = (
    "../../escape",
    "a`b``` # heading",
    "x | y: 'z'\\",
    "naïve 猫 \U0001f600",
    "/etc/passwd",
    "<script>alert(1)</script>",
)

RESULTS = {
    "distilled": {"mean": 0.6, "std": 0.0123, "accuracies": [0.5, 0.7]},
    "full": {"mean": 0.9, "std": None, "accuracies": [0.9]},
}


@pytest.fixture
def real() -> RealData:
    data = small_data(6)
    return dataclasses.replace(data, spec=dataclasses.replace(data.spec, class_names=HOSTILE))


@pytest.fixture
def run_dir(real: RealData, make_synthetic: MakeSynthetic, tmp_path: Path) -> Path:
    synthetic = make_synthetic(real, poster_layout())
    manifest = {"results": RESULTS, "outer_steps": 7, "seed": 3}
    save_artefact(
        tmp_path / "runs" / "a", synthetic, real=real, recipe=Recipe(lr=0.25), manifest=manifest
    )
    (tmp_path / "runs" / "a" / "run.toml").write_text("steps = 7\n")
    return tmp_path / "runs" / "a"


def test_metadata_names_every_picture_once(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "hub"
    export(run_dir, out, "huggingface")
    distilled = load(run_dir)
    text = (out / "train" / "metadata.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    pictures = sorted(path.name for path in (out / "train").glob("*.png"))
    assert [line["file_name"] for line in lines] == pictures
    expected = distilled.transform.whitening.invert(distilled.images)
    for k, line in enumerate(lines):
        assert line["soft_label"] == pytest.approx(distilled.labels[k].tolist())
        assert line["label"] == int(distilled.labels[k].argmax())
        assert line["class_name"] == HOSTILE[line["label"]]
        with Image.open(out / "train" / line["file_name"]) as picture:
            pixels = np.asarray(picture).transpose(2, 0, 1) / 255
        assert np.abs(pixels - expected[k].numpy()).max() <= 0.5 / 255 + 1e-6
    assert torch.equal(load_file(out / "tensors.safetensors")["images"], distilled.images)
    assert (out / "run.toml").read_bytes() == (run_dir / "run.toml").read_bytes()


def test_the_card_has_a_valid_header_and_no_way_out_of_it(run_dir: Path, tmp_path: Path) -> None:
    told = export(run_dir, tmp_path / "hub", "huggingface", licence="cc-by-4.0")
    assert "Before you publish it: read README.md." in told
    text = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    _, header, body = text.split("---\n", 2)
    values = yaml.safe_load(header)
    assert values["license"] == "cc-by-4.0"
    (split,) = values["configs"][0]["data_files"]
    assert split == {"split": "train", "path": "train/**"}
    assert "60.00 ± 1.23 %" in body
    assert f"steps of all {len(load(run_dir).dataset)} images" in body
    assert "90.00 %" in body
    assert "distill run --config run.toml" in body
    assert "whitening.safetensors" in body
    assert "# heading" not in body.splitlines()
    block = body.split("```json\n")[1].split("```")[0]
    assert json.loads(block) == list(HOSTILE)
    fields = {name for _, name, _, _ in Formatter().parse(CARD) if name}
    assert not [name for name in fields if f"{{{name}}}" in body]


def test_an_unknown_licence_is_said(run_dir: Path, tmp_path: Path) -> None:
    told = export(run_dir, tmp_path / "hub", "huggingface")
    assert [line for line in told if line.endswith("the source data with --license.")]
    text = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    assert "license: unknown" in text
    assert "find out before you publish" in text
    with pytest.raises(OptionError, match="is not an identifier"):
        export(run_dir, tmp_path / "hub2", "huggingface", licence="mit\ntags: [x]")
    assert not (tmp_path / "hub2").exists()


@pytest.mark.parametrize("form", ["images", "tensors", "huggingface", "dd-ranking"])
def test_hostile_class_names_stay_in_the_folder(run_dir: Path, tmp_path: Path, form: str) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    export(run_dir, tmp_path / "out", form)
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert made
    assert all(path.resolve().is_relative_to(tmp_path / "out") for path in made)
    assert json.loads((tmp_path / "out" / "info.json").read_text())["class_names"] == list(HOSTILE)


def test_dd_ranking_gets_whitened_images_class_by_class(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "dd"
    lines = export(run_dir, out, "dd-ranking")
    distilled = load(run_dir)
    n = len(distilled.labels)
    ipc = -(-n // 6)
    body = json.loads((out / "geometry.json").read_text())
    images = torch.load(out / "images.pt", weights_only=True)
    labels = torch.load(out / "labels.pt", weights_only=True)
    assert body["ipc"] == ipc
    assert body["approximate"] is True
    assert any("Approximate" in line for line in lines)
    assert images.shape == (6 * ipc, 3, 8, 8)
    assert torch.equal(images, distilled.images[body["chosen"]])
    # DD-Ranking's own softmax gives the probabilities back.
    assert torch.allclose(labels.softmax(1), distilled.labels[body["chosen"]], atol=1e-6)
    for label in range(6):
        mine = distilled.labels[body["chosen"][label * ipc : (label + 1) * ipc], label]
        assert mine.tolist() == sorted(distilled.labels[:, label].tolist(), reverse=True)[:ipc]
    assert torch.load(out / "lr.pt", weights_only=True).item() == 0.25


def test_dd_ranking_also_gets_the_true_set(
    run_dir: Path, tmp_path: Path, real: RealData, make_synthetic: MakeSynthetic
) -> None:
    export(run_dir, tmp_path / "dd", "dd-ranking")
    body = json.loads((tmp_path / "dd" / "geometry.json").read_text())
    true = load_file(tmp_path / "dd" / "poster.safetensors")
    synthetic = make_synthetic(real, poster_layout())
    assert torch.equal(true["pixels"], synthetic.representation.canvases())
    assert torch.equal(true["labels"], synthetic.all().labels)
    items = synthetic.placement.layout.items
    assert len(body["items"]) == len(items)
    assert body["class_grid"] == synthetic.placement.class_grid.tolist()
    for k, item in enumerate(body["items"][:3]):
        y, x = item["top"], item["left"]
        cut = true["pixels"][item["canvas"], :, y : y + 8, x : x + 8]
        assert torch.equal(cut, gather_boxes(true["pixels"], items[torch.tensor([k])])[0])


def test_a_balanced_set_is_exact(make_synthetic: MakeSynthetic, tmp_path: Path) -> None:
    real = small_data(6)
    synthetic = make_synthetic(real, image_layout(6))
    with torch.no_grad():
        synthetic.labeler.rows.copy_(torch.eye(6).roll(1, 0) + 0.01)
    save_artefact(tmp_path / "run", synthetic, real=real, recipe=Recipe(), manifest={})
    lines = export(tmp_path / "run", tmp_path / "dd", "dd-ranking")
    assert any(line.startswith("Exact") for line in lines)
    labels = torch.load(tmp_path / "dd" / "labels.pt", weights_only=True)
    assert labels.argmax(1).tolist() == [0, 1, 2, 3, 4, 5]


def test_selection_by_hand() -> None:
    labels = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7]])
    chosen = top_ipc(labels)  # ceil(5 / 2) = 3 for each class
    assert chosen.tolist() == [1, 0, 3, 2, 4, 3]
    assert not is_exact(chosen, labels)
    assert is_exact(torch.tensor([1, 0, 2, 4]), labels[[0, 1, 2, 4]]) is False
    assert is_exact(torch.tensor([1, 0, 2, 3]), labels[[0, 1, 2, 4]])


def test_labels_without_a_logarithm_are_refused() -> None:
    for row in ([1.5, -0.5], [0.2, 0.2]):
        with pytest.raises(InputError, match="not probabilities"):
            logits_of(torch.tensor([row]))

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from distill_core.artefact import file_sha256
from distill_core.files import read_tensors, write_tensors
from distill_core.verify import read_manifest, verify, within_spread
from registry import InputError

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run-v1"


@pytest.fixture
def run_dir(tmp_path):
    return shutil.copytree(FIXTURE, tmp_path / "run")


def failed(run_dir):
    return {check.name: check.found for check in verify(run_dir) if not check.passed}


def change(run_dir, edit, *, honest=True):
    """Edit the tensors; an honest manifest lists the new hash."""
    path = run_dir / "distilled.safetensors"
    tensors, metadata = read_tensors(path)
    edit(tensors, metadata)
    write_tensors(path, tensors, metadata)
    if honest:
        edit_manifest(run_dir, lambda m: m["files"].update({path.name: file_sha256(path)}))


def edit_manifest(run_dir, edit):
    path = run_dir / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def test_a_run_as_it_was_written_passes():
    checks = verify(FIXTURE)
    assert failed(FIXTURE) == {}
    assert {"budget", "class order", "labels", "distilled.safetensors"} <= {c.name for c in checks}


@pytest.mark.parametrize(
    "name", ["distilled.safetensors", "whitening.safetensors", "poster.png", "run.toml"]
)
def test_one_changed_byte_of_any_file_is_found(name, run_dir):
    path = run_dir / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "SHA-256" in failed(run_dir)[name]
    path.unlink()
    assert failed(run_dir)[name] == "is missing"


@pytest.mark.parametrize(
    ("value", "said"), [(float("nan"), "finite"), (float("inf"), "finite"), (2.0, "sums within")]
)
def test_labels_off_the_simplex(value, said, run_dir):
    def edit(tensors, metadata):
        tensors["labels"][3, 1] = value

    change(run_dir, edit)
    assert said in failed(run_dir)["labels"]


def test_negative_labels_that_sum_to_one(run_dir):
    def edit(tensors, metadata):
        tensors["labels"][0] = torch.tensor([2.0, -1.0, 0, 0, 0, 0])

    change(run_dir, edit)
    assert set(failed(run_dir)) == {"labels"}


def test_a_class_twice(run_dir):
    def edit(tensors, metadata):
        tensors["class_grid"].view(-1)[0] = tensors["class_grid"].view(-1)[1]

    change(run_dir, edit)
    assert failed(run_dir) == {"class order": "the class grid is no permutation of the classes"}


def test_another_order_than_the_manifest_says(run_dir):
    edit_manifest(run_dir, lambda m: m["class_order"][0].reverse())
    assert "not as the manifest says" in failed(run_dir)["class order"]


def test_a_budget_that_is_too_modest(run_dir):
    edit_manifest(run_dir, lambda m: m["budget"].update(pixels=100.0))
    assert "294 pixels, 36 label numbers are stored" in failed(run_dir)["budget"]


def test_files_outside_the_directory_are_not_read(run_dir):
    edit_manifest(run_dir, lambda m: m["files"].update({"../secret": "0"}))
    assert "'../secret' is not a file of the run directory" in failed(run_dir)["file"]


def test_a_newer_manifest_is_refused(run_dir):
    edit_manifest(run_dir, lambda m: m.update(format=2))
    with pytest.raises(InputError, match="has format 2"):
        verify(run_dir)
    (run_dir / "manifest.json").write_text("[1")
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(run_dir)
    (run_dir / "manifest.json").unlink()
    with pytest.raises(InputError, match="does not exist"):
        read_manifest(run_dir)


def test_the_spread_by_hand():
    """s = 0.1 in both, 3 s sqrt(1/2 + 1/2) = 0.3 (times sqrt 2 of the sample: 0.4243)."""
    recorded = {"accuracies": [0.4, 0.6]}
    assert within_spread(recorded, (0.8, 1.0)).passed
    assert not within_spread(recorded, (0.9, 1.1)).passed
    assert within_spread({"accuracies": [0.5]}, (0.5,)).passed
    assert not within_spread({"accuracies": [0.5]}, (0.51,)).passed

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from distill_core.artefact.artefact import file_sha256, load
from distill_core.artefact.last_set import keep, release
from distill_core.artefact.manifest import read_manifest
from distill_core.commands.verify import verify, within_spread
from distill_core.system.files import read_tensors, write_tensors
from registry import InputError
from tests.distill_core.artefact.stored_results import DECODERS, assembled, save

FIXTURE = Path(__file__).parents[2] / "fixtures" / "run-v1"


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


def test_a_set_that_a_run_replaces_meanwhile_is_checked_again(run_dir, monkeypatch):
    def slow(path):
        release(run_dir)
        return load(path)

    keep(run_dir)
    monkeypatch.setattr("distill_core.commands.verify.load", slow)
    assert failed(run_dir) == {}


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


def test_stored_numbers_without_their_whitening(tmp_path):
    save(assembled("gsdd", images=DECODERS["gsdd"]), tmp_path)
    assert failed(tmp_path) == {}
    (tmp_path / "whitening.safetensors").unlink()
    found = failed(tmp_path)
    assert found.keys() == {"whitening.safetensors", "artefact", "storage"}
    assert found["whitening.safetensors"] == "is missing"
    assert found["artefact"] == "whitening.safetensors is missing"


def test_labels_of_stored_numbers_are_a_claim_of_their_own(tmp_path):
    """The table of stored numbers had no row for them, whatever became of their numbers."""

    def row(folder):
        return next(check for check in verify(folder) if check.name == "labels")

    def broken(folder, edit):
        file = folder / "stored.safetensors"
        tensors, metadata = read_tensors(file)
        edit(tensors)
        write_tensors(file, tensors, metadata)
        edit_manifest(folder, lambda m: m["files"].update({file.name: file_sha256(file)}))
        return failed(folder)

    images = {"images": {"stored": "uint8"}}
    save(assembled("images", "soft", labels={"stored": "uint4"}, **images), tmp_path / "soft")
    save(assembled("images", "onehot", **images), tmp_path / "onehot")
    # Twelve rows of six classes: half a byte each, and one pair of float32.
    assert row(tmp_path / "soft").found == "72 numbers in 44 bytes, from which they are made"
    assert "no numbers" in row(tmp_path / "onehot").found
    assert failed(tmp_path / "soft") == failed(tmp_path / "onehot") == {}
    found = broken(tmp_path / "soft", lambda tensors: tensors["label.rows.low"].fill_(float("nan")))
    assert found.keys() == {"artefact", "labels"}
    assert "are not all finite" in found["labels"]
    other = torch.zeros(5, dtype=torch.uint8)
    found = broken(tmp_path / "onehot", lambda tensors: tensors.update(hidden=other))
    assert found == {"storage": "5 bytes of stored.safetensors are none of its numbers"}


def test_metadata_of_another_form_are_a_failed_claim(run_dir):
    def edit(tensors, metadata):
        metadata["same"] = []

    change(run_dir, edit)
    assert "cannot be read (AttributeError" in failed(run_dir)["budget"]


def test_the_file_of_a_result_is_no_run_directory():
    with pytest.raises(InputError, match=r"distilled\.safetensors is a file") as caught:
        verify(FIXTURE / "distilled.safetensors")
    assert f"'{FIXTURE}'" in caught.value.next


@pytest.mark.parametrize(
    ("value", "said"), [(float("nan"), "finite"), (float("inf"), "finite"), (2.0, "sums within")]
)
def test_labels_off_the_simplex(value, said, run_dir):
    def edit(tensors, metadata):
        tensors["labels"][3, 1] = value

    change(run_dir, edit)
    found = failed(run_dir)
    assert said in found["labels"]
    assert "labels" in found["artefact"]


def test_negative_labels_that_sum_to_one(run_dir):
    def edit(tensors, metadata):
        tensors["labels"][0] = torch.tensor([2.0, -1.0, 0, 0, 0, 0])

    change(run_dir, edit)
    assert set(failed(run_dir)) == {"labels", "artefact"}


def test_targets_that_are_not_meant_to_be_distributions(run_dir):
    def edit(tensors, metadata):
        tensors["labels"][0] = torch.tensor([2.0, -1.5, 0, 0, 0, 0])
        metadata["simplex"] = False

    change(run_dir, edit)
    assert failed(run_dir) == {}


def test_a_class_twice(run_dir):
    def edit(tensors, metadata):
        tensors["class_grid"].view(-1)[0] = tensors["class_grid"].view(-1)[1]

    change(run_dir, edit)
    assert failed(run_dir) == {"class order": "the class grid is not a permutation of the classes"}


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
    """Of two and two, s = 0.1 sqrt(2) and t = 9.92: 9.92 s sqrt(1/2 + 1/2) = 1.403."""
    recorded = {"accuracies": [0.4, 0.6]}
    close = within_spread(recorded, (0.8, 1.0))
    assert close.passed
    assert close.found.endswith("2 and 2 networks tell apart what differs by more than 140.29")
    eight = {"accuracies": [0.50, 0.51] * 4}  # s = 0.00535, t = 3.17, sqrt(2/8) = 0.5: 0.0085
    assert within_spread(eight, (0.508, 0.518) * 4).passed
    assert not within_spread(eight, (0.509, 0.519) * 4).passed


@pytest.mark.parametrize("nets", [1, 2, 8])
def test_what_it_can_tell_holds_for_chance(nets):
    """Of two evaluations of one thing 1 % differ by more, whatever the number of networks."""
    generator = torch.Generator().manual_seed(0)
    draws = 0.5 + 0.02 * torch.randn(2000, 3 * nets, generator=generator, dtype=torch.float64)
    refused = sum(
        not within_spread({"accuracies": row[: 2 * nets].tolist()}, tuple(row[2 * nets :])).passed
        for row in draws
    )
    assert 4 <= refused <= 40  # 20 are expected


def test_one_network_each_tells_equality_alone():
    recorded = {"accuracies": [0.5]}
    assert within_spread(recorded, (0.5,)).found == "as recorded for each of 1 network"
    other = within_spread(recorded, (0.51,))
    assert not other.passed
    assert "one network each tells no spread" in other.found

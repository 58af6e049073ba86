"""A result is sent to the Hub and loaded from there, against a server of our own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import distill_core
from distill_core.export.hub import push
from registry import EnvironmentFault, InputError
from tests.distill_core.artefact.stored_results import DECODERS, assembled, save
from tests.distill_core.cli.fakes import ROOT, distill
from tests.distill_core.export.hub_server import Datasets, hub_server

RUN = ROOT / "tests/fixtures/run-v1"


@pytest.fixture
def datasets() -> Datasets:
    return {}


@pytest.fixture(autouse=True)
def hub(datasets: Datasets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "good")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    with hub_server(datasets) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield address


def test_what_is_pushed_is_what_is_loaded(
    datasets: Datasets, hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = distill("push", str(RUN), "me/tiny", "--license", "mit", "--title", "Tiny: shapes")
    assert result.exit_code == 0, result.stderr
    assert f"{hub}/datasets/me/tiny" in result.stdout
    card = datasets["me/tiny"]["README.md"].decode()
    assert 'license: mit\npretty_name: "Tiny: shapes"' in card
    loaded, original = distill_core.load("hf://me/tiny"), distill_core.load(RUN)
    assert torch.equal(loaded.images, original.images)
    assert torch.equal(loaded.labels, original.labels)
    assert loaded.class_names == original.class_names
    assert loaded.verified
    monkeypatch.chdir(tmp_path)
    assert distill("export", "hf://me/tiny", "--format", "tensors").exit_code == 0
    assert (tmp_path / "export/tensors/tensors.safetensors").exists()
    assert not (tmp_path / "hf:").exists()
    assert distill("cite", "hf://me/tiny").stdout == distill("cite", str(RUN)).stdout


def test_another_kind_of_result_under_the_same_name(datasets: Datasets, tmp_path: Path) -> None:
    """Its file takes the place of the first, on the Hub and in what was downloaded before."""
    push(RUN, "me/tiny")
    assert distill_core.load("hf://me/tiny").path.name == "distilled.safetensors"
    run = save(assembled("fred", images=DECODERS["fred"]), tmp_path / "run").parent
    push(run, "me/tiny")
    assert "distilled.safetensors" not in datasets["me/tiny"]
    loaded = distill_core.load("hf://me/tiny")
    assert loaded.path.name == "stored.safetensors"
    assert torch.equal(loaded.images, distill_core.load(run).images)


def test_nothing_of_an_earlier_result_stays_beside_a_later_one(
    datasets: Datasets, tmp_path: Path
) -> None:
    push(RUN, "me/tiny")
    datasets["me/tiny"] |= {"train/0123.png": b"of a larger set", "notes.txt": b"the user's"}
    shutil.copytree(RUN, tmp_path / "run", ignore=shutil.ignore_patterns("run.toml"))
    push(tmp_path / "run", "me/tiny")
    assert not {"train/0123.png", "run.toml"} & set(datasets["me/tiny"])
    assert datasets["me/tiny"]["notes.txt"] == b"the user's"
    assert distill_core.load("hf://me/tiny").verified


def test_without_a_network_what_is_here_is_used(
    datasets: Datasets, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(RUN, "me/tiny")
    first = distill_core.load("hf://me/tiny")
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert torch.equal(distill_core.load("hf://me/tiny").images, first.images)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # which may have another of that name
    with pytest.raises(EnvironmentFault, match=r"127\.0\.0\.1:9 did not do it for me/tiny"):
        distill_core.load("hf://me/tiny")


def test_what_the_hub_does_not_have(datasets: Datasets) -> None:
    datasets["me/pictures"] = {"README.md": b"# cats"}
    with pytest.raises(InputError, match=r"no dataset me/none to you"):
        distill_core.load("hf://me/none")
    with pytest.raises(InputError, match=r"me/pictures has no distilled\.safetensors"):
        distill_core.load("hf://me/pictures")
    with pytest.raises(InputError, match="names no dataset of the Hub"):
        distill_core.load("hf://me")


def test_a_push_without_a_token_says_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "bad")
    result = distill("push", str(RUN), "me/tiny")
    assert result.exit_code == 2
    assert "hf auth login" in result.stderr


def test_nothing_of_the_machine_is_sent(datasets: Datasets, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["components"]["dataset"]["options"]["root"] = "/home/somebody/cats.zip"
    manifest["class_order"][0][0] = "/m/04rky"  # a name and no place
    manifest["commands"] = [["distill", "run", "--out", "/home/somebody/run"]]
    manifest["class_order_notes"] = ["vectors of (/home/somebody/clip.npz)"]
    text = (run / "run.toml").read_text() + '\n[options.other]\nroot = "/home/somebody/cats.zip"\n'
    (run / "run.toml").write_text(text)
    del manifest["files"]["run.toml"]
    manifest["results"] = {"distilled": {"mean": 0.5, "std": 0.1, "accuracies": [0.4, 0.6]}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    later = {"distilled": {"mean": 0.25, "std": None, "accuracies": [0.25]}}
    body = {"outer_steps": manifest["outer_steps"], "results": {"timm:resnet18": later}}
    (run / "evaluation").mkdir()
    (run / "evaluation" / "resnet-12345678.json").write_text(json.dumps(body))
    older = {"distilled": {"mean": 0.75, "std": None, "accuracies": [0.75]}}
    body["results"] = {"timm:resnet18": older}
    (run / "evaluation" / "resnet-recipe-ffffffff.json").write_text(json.dumps(body))
    os.utime(run / "evaluation" / "resnet-recipe-ffffffff.json", (1, 1))
    body["settings"] = {"timm:resnet18": {"evaluate": {"protocol": "dc"}}}
    (run / "evaluation" / "resnet-dc-12345678.json").write_text(json.dumps(body))
    push(run, "me/tiny")
    sent = datasets["me/tiny"]
    assert [name for name, data in sent.items() if b"somebody" in data] == []
    assert b"cats.zip" in sent["run.toml"]
    assert json.loads(sent["manifest.json"])["class_order"] == manifest["class_order"]
    card = sent["README.md"].decode()
    assert "| timm:resnet18 | this dataset | 25.00 % | 1 |" in card
    assert "| timm:resnet18, protocol dc | this dataset | 75.00 % | 1 |" in card
    assert "| the run's own | this dataset | 50.00 ± 10.00 % | 2 |" in card
    assert "          '0': " in card
    assert "@misc{shul2024distilling" in card


@pytest.mark.parametrize("name", ["tiny", "me/", "me/tiny/x", "hf://me/tiny", "me/caf\u00e9"])
def test_a_name_that_could_not_be_loaded_is_refused_before_any_work(
    name: str, datasets: Datasets, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="names no dataset of the Hub") as refused:
        push(tmp_path / "none", name)
    assert "USER/NAME" in refused.value.expected
    assert not datasets

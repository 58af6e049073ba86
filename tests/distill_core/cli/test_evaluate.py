"""`distill evaluate` and `distill export` on a small run."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from distill_core.artefact.artefact import load
from distill_core.config.discovery import discover
from distill_core.config.run_config import resolve
from distill_core.run.assemble import assemble
from distill_core.run.directory import begin
from tests.distill_core.cli.fakes import distill
from tests.distill_core.commands.test_evaluate import SETTINGS
from tests.distill_core.small_run import save_artefact


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    plugins = discover()
    config = resolve(SETTINGS, plugins)
    assembly = assemble(config, plugins)
    begin(tmp_path / "run", config, overwrite=False)
    recipe = assembly.algorithm.recipe()
    manifest = {"outer_steps": 0}
    save_artefact(
        tmp_path / "run", assembly.synthetic, real=assembly.real, recipe=recipe, manifest=manifest
    )
    return tmp_path / "run"


def test_a_row_for_each_backbone(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_core.commands.judging_pace.QUIET_SECONDS", 0.0)
    result = distill(
        "evaluate",
        str(run_dir),
        *("--backbone", "convnet", "--backbone", "timm", "--backbone", "timm:test_resnet"),
        *("-o", "evaluate.steps=2", "--nets", "1", "--protocol", "dc"),
    )
    assert result.exit_code == 0, result.stderr
    lines = [[cell.strip() for cell in line.split("\t")] for line in result.stdout.splitlines()[:4]]
    assert lines[0] == ["backbone", "distilled", "random real images", "full training set"]
    assert [line[0] for line in lines[1:]] == ["convnet", "timm:resnet10t", "timm:test_resnet"]
    assert all(cell.endswith("%") for line in lines[1:] for cell in line[1:])
    assert "1 real image per class, whole" in result.stdout
    assert "convnet, distilled: network 1" in result.stderr
    assert "convnet, random real images: network 1" in result.stderr
    for row in ("convnet", "timm:resnet10t", "timm:test_resnet"):
        assert result.stderr.count(f"{row}: the first network took") == 1
    assert "timm:test_resnet: networks by autograd (no kernels for this Timm" in result.stderr
    (path,) = (run_dir / "evaluation").iterdir()
    record = json.loads(path.read_text())
    assert record["engines"]["timm:test_resnet"] == "autograd (no kernels for this TimmBackbone)"
    settings = record["settings"]
    assert settings["convnet"]["options"]["width"] == 4  # as the run's
    assert settings["timm:test_resnet"]["evaluate"]["protocol"] == "dc"


def test_options_of_the_backbone(run_dir: Path) -> None:
    options = ("-o", "backbone.width=2", "-o", "evaluate.controls=false", "--nets", "2")
    result = distill("evaluate", str(run_dir), *options, "-o", "run.threads=1")
    assert result.exit_code == 0, result.stderr
    assert "machine: 1 thread (of " in result.stderr
    assert "+-" in result.stdout
    (path,) = (run_dir / "evaluation").iterdir()
    assert json.loads(path.read_text())["settings"]["convnet"]["options"]["width"] == 2


def test_on_the_validation_images(run_dir: Path) -> None:
    options = ("-o", "evaluate.controls=false", "--nets", "1", "--split", "validation")
    result = distill("evaluate", str(run_dir), *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "1 network; on the validation split; not saved"
    assert not (run_dir / "evaluation").exists()


@pytest.mark.parametrize("as_json", [False, True])
def test_accuracies_are_shown_where_the_disk_is_full_in_the_end(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    replace = os.replace

    def full(source: str | Path, target: str | Path) -> None:
        if str(target).endswith(".json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("distill_core.system.files.os.replace", full)
    options = ("-o", "evaluate.controls=false", "--nets", "1", *(["--json"] if as_json else []))
    result = distill("evaluate", str(run_dir), *options)
    assert result.exit_code == 1
    if as_json:
        found = json.loads(result.stdout)["results"]["convnet"]["distilled"]["accuracies"]
        assert len(found) == 1
    else:
        assert result.stdout.splitlines()[0].split() == ["backbone", "distilled"]
        assert "saved in" not in result.stdout
    assert "the evaluation could not be kept" in result.stderr
    assert "No space left on device" in result.stderr
    assert "note the accuracies" in result.stderr
    assert not list((run_dir / "evaluation").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "data.whitening=zca"], "cannot be changed after the run"),
        (["-o", "run.seed=1"], "cannot be changed after the run"),
        (["-o", "backbone.widht=3"], "Did you mean 'backbone.width'?"),
        (["--backbone", "convnte"], "Did you mean 'convnet'?"),
        (["--protocol", "paper"], "'recipe', 'podd', 'rat', 'dc', 'mtt' or 'frepo'"),
        (["--metrics", "lrs,asr"], "Did you mean 'ars'?"),
        (["--split", "train"], "Expected one of: test, validation."),
        (["--split", "validation", "--metrics", "lrs"], "leave out --split validation"),
        (["--nets", "0"], "at least 1"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
    ],
)
def test_mistakes_are_explained(run_dir: Path, arguments: list[str], message: str) -> None:
    result = distill("evaluate", str(run_dir), *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (run_dir / "evaluation").exists()


@pytest.mark.parametrize("command", [["evaluate"], ["export", "--format", "images"]])
def test_a_directory_that_is_no_run(tmp_path: Path, command: list[str]) -> None:
    result = distill(command[0], str(tmp_path / "none"), *command[1:])
    assert result.exit_code == 2
    assert "none" in result.stderr.splitlines()[0]


@pytest.mark.parametrize("form", ["images", "tensors"])
def test_export(run_dir: Path, form: str) -> None:
    result = distill("export", str(run_dir), "--format", form)
    assert result.exit_code == 0, result.stderr
    assert any((run_dir / "export" / form).iterdir())
    again = distill("export", str(run_dir), "--format", form)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    elsewhere = distill("export", str(run_dir), "--format", form, "--out", str(run_dir / "x"))
    assert elsewhere.exit_code == 0


def test_a_format_is_needed_and_known(run_dir: Path) -> None:
    for arguments in ([], ["--format", "pt"]):
        result = distill("export", str(run_dir), *arguments)
        assert result.exit_code == 2
        assert "--format" in result.stderr


def test_a_tampered_result_is_refused(run_dir: Path) -> None:
    path = run_dir / "distilled.safetensors"
    assert load(run_dir).verified
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for command in (["evaluate"], ["export", "--format", "tensors"]):
        result = distill(command[0], str(run_dir), *command[1:])
        assert result.exit_code == 2
        assert "was changed or cut short" in result.stderr


def test_the_artefact_alone_is_judged_and_a_missing_package_is_named(run_dir: Path) -> None:
    text = (run_dir / "run.toml").read_text()
    gone = text.replace('algo = "ratbptt"', 'algo = "gone"').replace(
        'repr = "images"', 'repr = "x"'
    )
    assert gone != text
    (run_dir / "run.toml").write_text(gone)
    quick = ("--nets", "1", "-o", "evaluate.steps=1", "-o", "evaluate.controls=false")
    result = distill("evaluate", str(run_dir), *quick)
    assert result.exit_code == 0, result.stderr
    (run_dir / "run.toml").write_text(gone.replace('dataset = "shapes"', 'dataset = "bees"'))
    manifest = json.loads((run_dir / "manifest.json").read_text())
    part = {"name": "bees", "distribution": "distill-bees", "version": "2.1"}
    manifest["components"] = {"dataset": part}
    (run_dir / "manifest.json").write_text(json.dumps(manifest))
    result = distill("evaluate", str(run_dir), *quick)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == "no dataset named 'bees'."
    assert "Next: install distill-bees 2.1, which the run used: pip install" in result.stderr
    (run_dir / "run.toml").write_text(text.replace('dataset = "shapes"', 'dataset = "bees"'))
    assert distill("run", "--resume", "--out", str(run_dir)).stderr == result.stderr

"""A run of a decoder leaves its numbers, and every command works with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import distill_core
from distill_core.artefact.contents import DISTILLED, STORED
from distill_core.commands.evaluate import find_candidate
from distill_core.config.run_config import resolve
from distill_core.run.assemble import load_real
from distill_core.run.directory import settings_of
from tests.caches import make_cache
from tests.distill_core.cli.small_args import distill
from tests.distill_core.small_run import SMALL, installed

CHOICE = {
    "repr": "gsdd",
    "labeler": "soft",
    "orderer": "identity",
    "algo": "ratbptt",
    "dataset": "shapes",
    "ipc": 1,
    "steps": 2,
}
OPTIONS = {
    **{kind: SMALL["options"][kind] for kind in ("algo", "dataset", "backbone")},
    "repr": {"points": 4, "fit_steps": 2, "stored": "bfloat16"},
    "evaluate": SMALL["evaluate"],
}


def words(out: Path) -> list[str]:
    """Return the command of the run."""
    given = [word for name, value in CHOICE.items() for word in (f"--{name}", str(value))]
    for table, options in OPTIONS.items():
        given += [w for name, value in options.items() for w in ("-o", f"{table}.{name}={value}")]
    return ["run", "--out", str(out), "--device", "cpu", *given]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_CACHE", str(cache))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("runs") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_CACHE", str(cache))
        result = distill(*words(out))
    assert result.exit_code == 0, result.output
    return out, result.output


def test_the_numbers_are_there_and_named(finished: tuple[Path, str]) -> None:
    out, printed = finished
    assert f"saved    {out} (poster_grid.png, {STORED}, metrics.jsonl)" in printed
    assert (out / STORED).exists()
    assert not (out / DISTILLED).exists()
    listed = json.loads((out / "manifest.json").read_text())["files"]
    assert STORED in listed
    assert DISTILLED not in listed


def test_what_was_judged_is_what_is_loaded(finished: tuple[Path, str]) -> None:
    """The accuracies of the run come again: it judges the images that the numbers decode to."""
    result = distill("verify", str(finished[0]), "--evaluate")
    assert result.exit_code == 0, result.output
    assert "decode to" in result.output
    assert "as recorded for each of 2 networks" in result.output


def test_every_command_reads_it(finished: tuple[Path, str], tmp_path: Path) -> None:
    out = str(shutil.copytree(finished[0], tmp_path / "run"))
    for command in (
        ["report", out],
        ["compare", out],
        ["cite", out],
        ["export", out, "--format", "tensors"],
        ["evaluate", out, "-o", "evaluate.controls=false", "--nets", "1"],
    ):
        result = distill(*command)
        assert result.exit_code == 0, (command, result.output)
    images = distill_core.load(out).images
    plain = load_file(Path(out) / "export" / "tensors" / "tensors.safetensors")
    assert torch.equal(plain["images"], images)
    assert 'id="overlay"' in (Path(out) / "report.html").read_text()
    assert "jiang" in distill("cite", out).stdout.lower()


def test_it_goes_on_and_is_found_again(finished: tuple[Path, str], tmp_path: Path) -> None:
    out = shutil.copytree(finished[0], tmp_path / "run")
    before = distill_core.load(out).images
    result = distill("run", "--resume", "--out", str(out), "--steps", "3")
    assert result.exit_code == 0, result.output
    after = distill_core.load(out)
    assert after.path == out / STORED
    assert not torch.equal(after.images, before)
    config = resolve(settings_of(out), installed())
    real = load_real(config, installed())
    candidate, _ = find_candidate(out, config, installed(), real)
    assert (candidate.step, len(candidate.batch.images)) == (3, len(before))


def test_python_gets_images(tmp_path: Path) -> None:
    """`result.distilled`, where it is not asked for a folder, and copied to one."""
    names = {"repr": "representation", "algo": "algorithm"}
    given = {names.get(name, name): value for name, value in CHOICE.items()}
    result = distill_core.distill(**given, device="cpu", options=OPTIONS)
    images = result.dataset.tensors[0]
    assert images.shape[1:] == (3, 8, 8)
    assert not images.requires_grad
    saved = result.save(tmp_path / "saved")
    assert torch.equal(distill_core.load(saved).images, images)

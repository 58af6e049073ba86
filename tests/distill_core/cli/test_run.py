from __future__ import annotations

import json
import shutil
import signal
import time
import tomllib
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import distill_core
from distill_core.builtin.algorithms.unrolled.ratbptt import RatBptt
from distill_core.commands import preview
from registry import InputError
from tests.caches import make_cache
from tests.distill_core.cli.small_args import arguments, distill
from tests.forks import fork_distill


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_CACHE", str(make_cache(tmp_path_factory.mktemp("cache"))))
        result = distill(*arguments(out))
    assert result.exit_code == 0, result.output
    return out, result.output


def lines_of(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_the_run_directory_is_complete(finished):
    out, _ = finished
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "run.toml",
        "manifest.json",
        "distilled.safetensors",
        "whitening.safetensors",
        "poster.png",
        "poster_grid.png",
        "metrics.jsonl",
        "checkpoint",
    }
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(name.endswith(".part") for name in names)
    with Image.open(out / "poster.png") as picture:
        assert picture.width >= 512


def test_what_is_printed(finished):
    out, output = finished
    assert "poster x poddl x poco x ratbptt on shapes (cpu)" in output
    assert "label numbers (1 soft label per class)" in output
    assert "step 4/4  loss" in output
    assert "random real images" in output
    assert f"saved    {out}" in output


def test_metrics_have_every_step_and_the_evaluations(finished):
    out, _ = finished
    lines = lines_of(out)
    steps = [line for line in lines if line["kind"] == "step"]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert all({"loss", "grad_norm", "seconds"} <= line.keys() for line in steps)
    judged = {line["what"]: line for line in lines if line["kind"] == "evaluation"}
    assert set(judged) == {"distilled", "random", "full"}
    assert len(judged["distilled"]["accuracies"]) == 2


def test_the_manifest_says_what_one_must_know(finished):
    out, _ = finished
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["components"]["orderer"]["name"] == "poco"
    assert manifest["components"]["orderer"]["plugin"] == "podd"
    assert manifest["components"]["algo"]["options"]["window"] == 2
    assert manifest["outer_steps"] == 4
    assert manifest["budget"]["label_numbers"] == 36
    assert sum(len(row) for row in manifest["class_order"]) == 6
    assert set(manifest["results"]) == {"distilled", "random", "full"}
    assert manifest["class_order_notes"]["similarity"] == "image"


def test_the_configuration_repeats_the_run(finished, tmp_path):
    out, _ = finished
    again = tmp_path / "again"
    result = distill("run", "--config", str(out / "run.toml"), "--out", str(again))
    assert result.exit_code == 0, result.output
    assert (again / "run.toml").read_bytes() == (out / "run.toml").read_bytes()
    assert (again / "distilled.safetensors").read_bytes() == (
        out / "distilled.safetensors"
    ).read_bytes()


def test_the_result_loads(finished):
    out, _ = finished
    distilled = distill_core.load(out)
    images, labels = distilled.dataset.tensors
    assert images.shape == (10, 3, 8, 8)
    torch.testing.assert_close(labels.sum(1), torch.ones(10))


def test_dry_run_writes_nothing(tmp_path):
    out = tmp_path / "none"
    result = distill(*arguments(out, "--dry-run"))
    assert result.exit_code == 0, result.output
    assert not out.exists()
    assert "one outer step: " in result.output
    assert "budget   " in result.output
    assert result.stderr.splitlines()[0] == "loading  shapes"
    printed = result.stdout[: result.stdout.index("distill 0.")]
    config = tomllib.loads(printed)
    assert config["options"]["algo"]["window"] == 2
    assert config["options"]["algo"]["clip_decay"] == 0.9


def test_dry_run_refuses_a_directory_that_the_run_would_refuse(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    result = distill(*arguments(tmp_path, "--dry-run"))
    assert result.exit_code == 2
    assert "exists already and is not empty" in result.output
    assert "[options" not in result.output


def test_a_limit_of_memory_is_kept_and_recorded(tmp_path):
    out = tmp_path / "limited"
    result = distill(*arguments(out, "--max-memory", "500GiB", "--steps", "1"))
    assert result.exit_code == 0, result.output
    engine = json.loads((out / "manifest.json").read_text())["engine"]
    assert engine.endswith("predicted of 500GiB")
    assert f"engine   {engine}\n" in result.output
    result = distill(*arguments(tmp_path / "other", "--max-memory", "500GiB", "--dry-run"))
    assert "predicted at the peak of an outer step" in result.output


def test_an_existing_run_is_never_overwritten_by_accident(finished, tmp_path):
    out, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    before = (copy / "manifest.json").read_bytes()
    result = distill(*arguments(copy))
    assert result.exit_code == 2
    assert "exists already and is not empty" in result.stderr
    assert f"distill run --resume --out {copy}" in result.stderr
    assert (copy / "manifest.json").read_bytes() == before
    result = distill(*arguments(copy, "--overwrite", "--seed", "3"))
    assert result.exit_code == 0, result.output
    assert json.loads((copy / "manifest.json").read_text())["seed"] == 3


def test_a_run_that_validated_no_state_says_that_its_last_one_is_judged(tmp_path):
    options = ["evaluate.select=best", "evaluate.controls=false", "evaluate.every=2"]
    given = [word for option in options for word in ("-o", option)]
    said = "none of 1 outer step was validated"
    out = tmp_path / "run"
    result = distill(*arguments(out, *given, "--steps", "1"))
    assert result.exit_code == 0, result.output
    assert said in " ".join(result.output.split())
    assert json.loads((out / "manifest.json").read_text())["best_step"] is None
    result = distill("run", "--resume", "--out", str(out), "--steps", "2")
    assert result.exit_code == 0, result.output
    assert "was validated" not in result.output
    assert json.loads((out / "manifest.json").read_text())["best_step"] == 2


def test_overwrite_never_deletes_what_is_no_run(tmp_path):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.tex").write_text("x")
    result = distill(*arguments(precious, "--overwrite"))
    assert result.exit_code == 2
    assert "is not a run directory" in result.stderr
    assert (precious / "chapter1.tex").exists()


def test_a_mistake_with_overwrite_costs_nothing(finished, tmp_path):
    out, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    result = distill(*arguments(copy, "--overwrite", "-o", "dataset.size=9999"))
    assert result.exit_code == 2
    assert (copy / "distilled.safetensors").exists()


def _contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("method", ["prepare", "outer_step"])
def test_a_start_that_is_refused_leaves_nothing(method, monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise InputError("no.", expected="yes.", next="look.")

    monkeypatch.setattr(RatBptt, method, refuse)
    for more in ((), ("--overwrite",)):
        result = distill(*arguments(tmp_path / "some" / "where", *more))
        assert result.exit_code == 2, result.output
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [("--overwrite", "--seed", "3"), ("--resume", "--steps", "9")])
@pytest.mark.parametrize("error", [InputError("no."), KeyboardInterrupt()])
def test_before_the_first_step_an_earlier_run_stays_as_it_was(
    finished, more, error, monkeypatch, tmp_path
):
    out, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    (copy / ".lock").unlink()

    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(RatBptt, "prepare", refuse)
    before = _contents(copy)
    args = ["run", "--out", str(copy), *more] if "--resume" in more else arguments(copy, *more)
    result = distill(*args)
    after = _contents(copy)
    if isinstance(error, KeyboardInterrupt):
        assert result.exit_code == 130
        again = f"distill run --out {copy} --resume --steps 9"  # no file has the 9 yet
        assert (again in result.stderr) == ("--resume" in more)
        assert after.pop(copy / ".lock") == b""
    else:
        assert result.exit_code == 2
    assert after == before


def test_a_finished_run_goes_on_with_more_steps(finished, tmp_path):
    out, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    result = distill("run", "--resume", "--out", str(copy), "--steps", "6")
    assert result.exit_code == 0, result.output
    assert "resume   goes on after outer step 4 of 6\n" in result.stdout
    assert "judged before" not in result.stdout
    whole = tmp_path / "whole"
    assert distill(*arguments(whole, "--steps", "6")).exit_code == 0
    ours, theirs = (load_file(path / "distilled.safetensors") for path in (copy, whole))
    for name, tensor in theirs.items():
        assert torch.equal(tensor, ours[name]), name
    steps = [line["step"] for line in lines_of(copy) if line["kind"] == "step"]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_resume_with_another_setting_names_it(finished):
    out, _ = finished
    result = distill("run", "--resume", "--out", str(out), "--seed", "9")
    assert result.exit_code == 2
    assert "belongs to a run with seed = 0, not 9" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_says_how_to_go_on(number, tmp_path):
    out = tmp_path / "stopped"
    args = arguments(out, "--steps", "100000", "--yes")
    process = fork_distill(*args, folder=tmp_path / "child")
    metrics = out / "metrics.jsonl"
    limit = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"distill run --resume --out {out}" in errors
    steps = [line["step"] for line in lines_of(out)]
    assert steps == list(range(1, len(steps) + 1))
    result = distill("run", "--resume", "--out", str(out), "--steps", str(len(steps) + 1))
    assert result.exit_code == 0, result.output
    assert len([line for line in lines_of(out) if line["kind"] == "step"]) == len(steps) + 1


MISTAKES = {
    "unknown component": (
        ("--orderer", "pocco"),
        "no orderer named 'pocco'.",
        "Did you mean 'poco'?",
    ),
    "pictures of one's own as a name": (
        ("--dataset", "my_images"),
        "no dataset named 'my_images'.",
        "pictures of your own are read by --dataset imagefolder",
    ),
    "unknown option": (
        ("-o", "repr.patchs=2x5"),
        "unknown option repr.patchs.",
        "Did you mean 'repr.patches'?",
    ),
    "unknown kind of option": (
        ("-o", "labels.mode=fixed"),
        "no kind of option named 'labels'.",
        "labeler",
    ),
    "not an option at all": (("-o", "algo.window"), "-o algo.window has no effect.", "-o algo."),
    "out of bounds": (
        ("-o", "algo.window=0"),
        "option algo.window = '0' is not valid.",
        "at least 1",
    ),
    "contradiction": (
        ("-o", "algo.window=9"),
        "option algo.window = 9 is longer than algo.total = 4.",
        "1 <= window <= total",
    ),
    "memory without a unit": (
        ("--max-memory", "4"),
        "option engine.max_memory = '4' is not an amount of memory.",
        "for example 4GiB",
    ),
    "too little memory": (
        ("--max-memory", "1MiB"),
        "no way to stay within engine.max_memory = 1MiB was found",
        "data.storage=float16",
    ),
    "no number": (("-o", "algo.inner_lr=fast"), "option algo.inner_lr = 'fast'", "number"),
    "poster smaller than a patch": (("-o", "repr.size=6x20"), "6", "patch"),
    "more classes than cells": (("-o", "repr.classes=1x5"), "5", "6"),
    "budget that cannot be met": (("--ipc", "0.1"), "smaller than one patch", "--ipc"),
    "endless budget": (("--ipc", "inf"), "option run.ipc = inf", "finite"),
    "negative budget": (("--ipc", "-1"), "option run.ipc = -1.0", "greater than 0"),
    "network too deep": (("-o", "backbone.depth=9"), "9", "depth"),
    "unknown device": (("--device", "gpu"), "device 'gpu' cannot be used", "auto, cpu"),
    "best without validation": (
        ("-o", "evaluate.select=best"),
        "evaluate.select=best needs validation accuracies",
        "evaluate.every",
    ),
    "validation of nothing": (
        ("-o", "evaluate.every=1", "-o", "data.validation=0"),
        "data.validation is 0",
        "data.validation",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_three_lines_and_cost_nothing(case, tmp_path):
    changes, what, also = MISTAKES[case]
    out = tmp_path / "never"
    result = distill(*arguments(out, *changes))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert what in result.stderr.splitlines()[0]
    assert also in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 3
    assert not out.exists()


def test_a_fraction_of_an_image_is_no_image(tmp_path):
    chosen = ["--repr", "images", "--labeler", "soft", "--orderer", "identity", "--algo", "ratbptt"]
    result = distill("run", *chosen, "--ipc", "0.5", "--out", str(tmp_path / "x"))
    assert result.exit_code == 2
    assert "0.5" in result.stderr.splitlines()[0]
    assert "--repr poster" in result.stderr


def test_nothing_chosen(tmp_path):
    result = distill("run", "--repr", "poster", "--out", str(tmp_path / "x"))
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "nothing says which labeler, orderer, algo to use.",
        "Expected --repr, --labeler, --orderer and --algo, or a file or preset with them.",
        "Next: `distill list` shows what can be chosen, `distill presets` whole configurations.",
    ]


def test_unknown_preset_and_missing_file(tmp_path):
    result = distill("run", "--preset", "podd-cifar10-09")
    assert result.exit_code == 2
    assert "Did you mean 'podd-cifar10-0.9'?" in result.stderr
    result = distill("run", "--config", str(tmp_path / "no.toml"))
    assert result.exit_code == 2
    assert "there is no configuration file" in result.stderr
    broken = tmp_path / "broken.toml"
    broken.write_text("seed = \n")
    result = distill("run", "--config", str(broken))
    assert result.exit_code == 2
    assert "line 1" in result.stderr


def test_preset_and_config_together(tmp_path):
    result = distill("run", "--preset", "podd-cifar10-0.9", "--config", "x.toml")
    assert result.exit_code == 2
    assert "--config and --preset were both given." in result.stderr
    (tmp_path / "x.toml").write_text('preset = "podd-cifar10-0.9"\nsteps = 3\n')
    result = distill("run", "--config", str(tmp_path / "x.toml"))
    assert result.exit_code == 2
    assert "names a preset, 'podd-cifar10-0.9'" in result.stderr


def test_resume_needs_a_run(tmp_path):
    result = distill("run", "--resume")
    assert result.exit_code == 2
    assert "--resume reads its configuration from the run directory" in result.stderr
    result = distill("run", "--resume", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "is not a run directory" in result.stderr


def test_the_machine_is_shown_recorded_and_overridable(finished, tmp_path):
    out, output = finished
    assert "machine  cpu, 1 thread (of " in output
    hardware = json.loads((out / "manifest.json").read_text())["hardware"]
    assert hardware["threads"] == 1
    assert hardware["allocator"] in {"tuned", "stock"}
    assert hardware["cores"] >= 1
    again = tmp_path / "again"
    shutil.copytree(out, again)
    changed = ("-o", "run.threads=2", "-o", "run.allocator=stock")
    threads = torch.get_num_threads()
    try:
        result = distill("run", "--resume", "--out", str(again), *changed)
        assert result.exit_code == 0, result.output
        assert "machine  cpu, 2 threads (of " in result.output
        assert f"`distill compare {again}` prints it" in result.stdout  # not judged by two threads
        hardware = json.loads((again / "manifest.json").read_text())["hardware"]
        assert hardware["threads"] == 2
        assert tomllib.loads((again / "run.toml").read_text())["allocator"] == "stock"
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("algo.inner_lr=1e300", "nothing can be computed with algo.inner_lr=1e+300: math range"),
        ("algo.steps=4611686018427387904", "there is not enough memory: "),
    ],
)
def test_a_number_out_of_all_proportion_is_named(tmp_path, option, said):
    names = "--repr images --labeler onehot --orderer identity --algo dd --device cpu"
    result = distill("run", *names.split(), "--out", str(tmp_path / "run"), "-o", option)
    first, _, then = result.stderr.splitlines()
    assert first.startswith(said)
    name, _, value = option.partition("=")
    assert f"-o {name}={float(value) if 'e' in value else value}" in then
    assert not (tmp_path / "run").exists()


def test_judges_that_the_command_line_replaces_are_named(tmp_path, monkeypatch):
    settings = tmp_path / "judged.toml"
    settings.write_text(
        'repr = "images"\nlabeler = "soft"\norderer = "identity"\nalgo = "dd"\n'
        '[evaluate]\nbackbones = ["timm:convnext_tiny"]\n'
    )
    monkeypatch.setattr(preview, "preview", lambda *plan: None)
    given = ("run", "--config", str(settings), "--dry-run", "--out", str(tmp_path / "run"))
    backbones = ("--backbone", "convnet", "--backbone", "timm:resnet18")
    said = distill(*given, *backbones).output
    assert "replaces evaluate.backbones of the file or preset: without timm:convnext_tiny" in said
    assert "replaces" not in distill(*given).output

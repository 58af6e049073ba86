from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from distill_core.commands.evaluate import cross_evaluate, find_candidate
from distill_core.config.discovery import discover
from distill_core.config.run_config import RunConfig, resolve
from distill_core.evaluation import scores as measure_scores
from distill_core.evaluation.evaluate import Evaluator
from distill_core.evaluation.scores import check_split, label_robust_score
from distill_core.run.assemble import Assembly, assemble, load_real
from distill_core.run.directory import begin
from distill_core.run.loop import OuterLoop
from distill_core.run.validation import candidate_of
from distill_core.system.waiting import told_if_slow
from registry import EnvironmentFault, InputError, Plugins, UnknownNameError
from tests.distill_core.small_run import save_artefact

SETTINGS = {
    "repr": "images",
    "labeler": "soft",
    "orderer": "identity",
    "algo": "ratbptt",
    "dataset": "shapes",
    "steps": 1,
    "device": "cpu",
    "evaluate": {"nets": 2, "steps": 4, "full_steps": 3},
    "options": {
        "algo": {"window": 1, "total": 1, "real_batch": 8},
        "dataset": {"classes": 3, "size": 8, "train_per_class": 6, "test_per_class": 4},
        "backbone": {"width": 4},
    },
}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return discover(only=["builtin"])


@pytest.fixture
def run(plugins: Plugins, tmp_path: Path) -> tuple[Path, RunConfig, Assembly]:
    """A run that was interrupted: it has a checkpoint and no artefact."""
    config = resolve(SETTINGS, plugins)
    assembly = assemble(config, plugins)
    begin(tmp_path / "run", config, overwrite=False)
    OuterLoop(assembly, tmp_path / "run").run()
    return tmp_path / "run", config, assembly


Finish = Callable[[], None]


@pytest.fixture
def finish(run: tuple[Path, RunConfig, Assembly]) -> Finish:
    """Write the artefact."""
    run_dir, _, assembly = run
    return lambda: save_artefact(
        run_dir,
        assembly.synthetic,
        real=assembly.real,
        recipe=assembly.algorithm.recipe(),
        manifest={"outer_steps": 1},
    )


def test_artefact_and_checkpoint_are_judged_alike(
    run: tuple[Path, RunConfig, Assembly], finish: Finish, plugins: Plugins
) -> None:
    run_dir, config, assembly = run
    real = load_real(config, plugins)
    running, _ = find_candidate(run_dir, config, plugins, real)
    finish()
    finished, _ = find_candidate(run_dir, config, plugins, real)
    expected = assembly.synthetic.all()
    for candidate in (running, finished):
        assert torch.equal(candidate.batch.images, expected.images)
        assert torch.equal(candidate.batch.labels, expected.labels)
        assert not candidate.batch.labels.requires_grad
        assert candidate.recipe == assembly.algorithm.recipe()
        assert candidate.ipc == 1.0
        assert candidate.step == 1


def test_another_backbone_where_there_is_only_a_checkpoint(
    run: tuple[Path, RunConfig, Assembly], plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, config, _ = run
    backbone = config.options["backbone"].model_copy(update={"width": 2})
    narrow = config.model_copy(update={"options": {**config.options, "backbone": backbone}})
    said: list[str] = []
    quick = partial(told_if_slow, seconds=0.001)
    monkeypatch.setattr("distill_core.commands.evaluate.told_if_slow", quick)
    found = cross_evaluate(run_dir, {"narrow": narrow}, plugins, tell=said.append)
    assert set(found.results["narrow"]) == {"distilled", "random", "full"}
    assert said[0] == "narrow: networks by ConvNet kernels, float32"
    assert said[1].startswith("narrow: trains and tests networks (")


def test_several_backbones_with_their_controls(
    run: tuple[Path, RunConfig, Assembly], finish: Finish, plugins: Plugins
) -> None:
    run_dir, config, _ = run
    finish()
    backbone = config.options["backbone"].model_copy(update={"width": 2})
    narrow = config.model_copy(update={"options": {**config.options, "backbone": backbone}})
    told: list[tuple[str, int]] = []
    results = cross_evaluate(
        run_dir,
        {"convnet": config, "narrow": narrow},
        plugins,
        after_net=lambda what, net, value: told.append((what, net)),
    ).results
    assert list(results) == ["convnet", "narrow"]
    for columns in results.values():
        assert [len(result.accuracies) for result in columns.values()] == [2, 2, 1]
        assert list(columns) == ["distilled", "random", "full"]
        assert columns["distilled"].recipe.steps == 4
        assert columns["full"].recipe.steps == 3
    assert told[:3] == [
        ("convnet, distilled", 0),
        ("convnet, distilled", 1),
        ("convnet, random real images", 0),
    ]
    assert ("narrow, full training set", 0) in told


def test_the_record_is_a_file_and_a_line(
    run: tuple[Path, RunConfig, Assembly], finish: Finish, plugins: Plugins
) -> None:
    run_dir, config, _ = run
    finish()
    before = (run_dir / "metrics.jsonl").read_text() if (run_dir / "metrics.jsonl").exists() else ""
    results = cross_evaluate(run_dir, {"convnet": config}, plugins).results
    again = cross_evaluate(run_dir, {"convnet": config}, plugins).results
    (path,) = (run_dir / "evaluation").iterdir()  # the same settings, the same file
    body = json.loads(path.read_text())
    distilled = results["convnet"]["distilled"]
    assert body["results"]["convnet"]["distilled"]["accuracies"] == list(distilled.accuracies)
    assert again["convnet"]["distilled"].accuracies == distilled.accuracies
    lines = (run_dir / "metrics.jsonl").read_text().removeprefix(before).splitlines()
    assert len(lines) == 2
    line = json.loads(lines[0])
    assert line["file"] == path.name
    assert line["step"] == 1
    assert line["means"]["convnet"]["distilled"] == distilled.mean


def test_controls_can_be_left_out(
    run: tuple[Path, RunConfig, Assembly], finish: Finish, plugins: Plugins
) -> None:
    run_dir, config, _ = run
    finish()
    evaluate = config.evaluate.model_copy(update={"controls": False})
    plain = config.model_copy(update={"evaluate": evaluate})
    results = cross_evaluate(run_dir, {"convnet": plain}, plugins).results
    assert list(results["convnet"]) == ["distilled"]


def test_the_validation_split_is_judged_without_the_test_split_and_not_recorded(
    run: tuple[Path, RunConfig, Assembly],
    finish: Finish,
    plugins: Plugins,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    run_dir, config, _ = run
    finish()
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    real = load_real(config, plugins)
    blind = dataclasses.replace(real.test, images=None)
    without = dataclasses.replace(real, test=blind)  # fails if it is looked at
    monkeypatch.setattr("distill_core.commands.evaluate.load_real", lambda *a: without)
    rows = {"convnet": config}
    found = cross_evaluate(run_dir, rows, plugins, split="validation").results["convnet"]
    assert not (run_dir / "evaluation").exists()
    swapped = dataclasses.replace(real, test=real.validation)
    monkeypatch.setattr("distill_core.commands.evaluate.load_real", lambda *a: swapped)
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "other"))
    expected = cross_evaluate(run_dir, rows, plugins).results["convnet"]
    for what in ("distilled", "random", "full"):
        assert found[what].checkpoints == expected[what].checkpoints
    # The cache keeps both, each for its own split.
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("distill_core.commands.evaluate.load_real", lambda *a: real)
    kept = cross_evaluate(run_dir, rows, plugins, split="validation").results["convnet"]
    assert any("from the cache" in note for note in kept["full"].notes)
    tested = cross_evaluate(run_dir, rows, plugins).results["convnet"]
    assert not any("from the cache" in note for note in tested["full"].notes)


def test_other_data_than_the_runs_are_refused(
    run: tuple[Path, RunConfig, Assembly], finish: Finish, plugins: Plugins
) -> None:
    run_dir, config, assembly = run
    finish()
    other = dataclasses.replace(assembly.real, fingerprint="f" * 64)
    with pytest.raises(InputError, match="have changed since the run"):
        find_candidate(run_dir, config, plugins, other)


def test_a_run_without_anything_is_refused(
    run: tuple[Path, RunConfig, Assembly], plugins: Plugins
) -> None:
    run_dir, config, assembly = run
    (run_dir / "checkpoint" / "state.safetensors").unlink()
    with pytest.raises(InputError, match="nothing to evaluate yet"):
        find_candidate(run_dir, config, plugins, assembly.real)


def test_a_folder_that_cannot_be_written_is_refused_before_data_are_read(
    plugins: Plugins,
    run: tuple[Path, RunConfig, Assembly],
    finish: Finish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_dir, config, _ = run
    finish()

    def refuse(*args: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("distill_core.system.files.os.replace", refuse)
    read = "distill_core.commands.evaluate.load_real"
    monkeypatch.setattr(read, lambda *args: pytest.fail("data are read"))
    with pytest.raises(EnvironmentFault, match=r"run cannot keep an evaluation: .*Read-only f"):
        cross_evaluate(run_dir, {"convnet": config}, plugins)
    monkeypatch.undo()
    assert not list((run_dir / "evaluation").iterdir())


def test_scores_are_made_of_what_was_measured(
    run: tuple[Path, RunConfig, Assembly], finish: Finish, plugins: Plugins
) -> None:
    run_dir, config, _ = run
    finish()
    data = config.data.model_copy(update={"validation": 0.0})
    without = load_real(config.model_copy(update={"data": data}), plugins)
    with pytest.raises(InputError, match="no validation split, and the scores"):
        check_split(without, ["lrs"])
    with pytest.raises(InputError, match="no validation split, and was to be judged"):
        check_split(without, [], "validation")
    check_split(without, [])
    with pytest.raises(UnknownNameError, match="no metric named 'lsr'"):
        cross_evaluate(run_dir, {"convnet": config}, plugins, metrics=["lsr"])
    told: list[str] = []
    found = cross_evaluate(
        run_dir,
        {"convnet": config},
        plugins,
        metrics=("lrs", "ars"),
        after_net=lambda what, net, value: told.append(what),
    )
    scores = found.scores["convnet"]
    assert list(scores) == ["hlr", "ior", "lrs", "lrs_hard", "ior_augmented", "ior_plain", "ars"]
    for k in range(2):
        ior, hlr = scores["ior"].values[k] / 100, scores["hlr"].values[k] / 100
        assert scores["lrs"].values[k] == pytest.approx(label_robust_score(ior, hlr))
    assert told.count("convnet, distilled, hard labels") == 2  # rates are chosen in silence
    path = max((run_dir / "evaluation").iterdir(), key=lambda path: path.stat().st_mtime)
    body = json.loads(path.read_text())
    assert body["scores"]["convnet"]["ars"]["values"] == list(scores["ars"].values)


def test_rates_are_chosen_on_the_validation_split(
    run: tuple[Path, RunConfig, Assembly], plugins: Plugins
) -> None:
    _, config, assembly = run
    real, seen = load_real(config, plugins), []
    broken = dataclasses.replace(real, test=dataclasses.replace(real.test, images=None))
    candidate = candidate_of(assembly)
    recipe = candidate.training_recipe(config.evaluate)
    evaluator = Evaluator.of(
        config, broken, assembly.make_backbone, after_net=lambda *told: seen.append(told)
    )
    bench = measure_scores._Bench(candidate, evaluator, config.evaluate)
    chosen = bench._best_rate(bench._random, recipe)  # would fail if it read the test split
    assert chosen.lr in {*measure_scores.RATES, recipe.lr}
    assert chosen.model_copy(update={"lr": recipe.lr}) == recipe

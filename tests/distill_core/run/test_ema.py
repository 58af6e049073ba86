from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from distill_core.artefact.artefact import load
from distill_core.artefact.packing import state_of
from distill_core.commands import run as run_command
from distill_core.commands.evaluate import find_candidate
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.run.assemble import assemble, load_real
from distill_core.run.checkpoint import load_checkpoint
from distill_core.run.directory import begin
from distill_core.run.ema import MovingAverage, decay_at
from distill_core.run.loop import OuterLoop
from distill_core.run.validation import candidate_of
from distill_core.system.files import read_tensors
from tests.distill_core.small_run import installed, small_assembly, small_config

LABELS = {"algo": {"label_lr": 0.5}}


def values(synthetic: SyntheticDataset) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in synthetic.state_dict().items()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


class Trace:
    """Keeps the trained state after every step."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.loop: OuterLoop | None = None

    def after_step(self, step, metrics):
        self.states.append(values(self.loop.assembly.synthetic))

    def after_validation(self, step, accuracies):
        pass


def traced(run_dir, **changes) -> tuple[OuterLoop, Trace, dict[str, Tensor]]:
    trace = Trace()
    loop = OuterLoop(small_assembly(**changes), run_dir, observers=[trace])
    trace.loop = loop
    start = values(loop.assembly.synthetic)
    loop.run()
    return loop, trace, start


def test_the_decay_rises_to_its_limit():
    assert [decay_at(t, 0.999) for t in (0, 1, 90)] == [1 / 10, 2 / 11, 91 / 100]
    assert decay_at(10**6, 0.999) == 0.999
    assert decay_at(0, 0.0) == 0


@pytest.mark.parametrize("labeler", ["poddl", "soft"])
def test_it_equals_an_average_by_hand(tmp_path, labeler):
    loop, trace, start = traced(tmp_path, steps=6, ema=0.3, labeler=labeler, options=LABELS)
    expected = {name: tensor.double() for name, tensor in start.items()}
    for t, state in enumerate(trace.states):
        decay = min(0.3, (1 + t) / (10 + t))
        for name, tensor in state.items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor.double()
    for name, tensor in loop.result.synthetic.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name], atol=1e-5, rtol=1e-5)
        assert not torch.equal(tensor, trace.states[-1][name])


def test_the_training_does_not_see_it(tmp_path):
    averaged, _, _ = traced(tmp_path / "averaged", ema=0.9)
    plain, _, _ = traced(tmp_path / "plain")
    assert plain.result is plain.assembly
    assert_equal(values(averaged.assembly.synthetic), values(plain.assembly.synthetic))


def test_a_decay_of_zero_keeps_the_newest_state(tmp_path):
    loop, _, _ = traced(tmp_path, ema=0.0)
    for name, tensor in loop.result.synthetic.state_dict().items():
        torch.testing.assert_close(tensor, loop.assembly.synthetic.state_dict()[name])


def test_what_does_not_change_stays_the_same_to_the_bit():
    synthetic = small_assembly(labeler="onehot", repr="images", ipc=1).synthetic
    synthetic.register_buffer("count", torch.tensor(3))
    average = MovingAverage(synthetic, 0.7)
    before = values(average.synthetic)
    synthetic.get_buffer("count").fill_(5)
    for step in range(20):
        average.update(synthetic, step=step)
    assert_equal(values(average.synthetic), before | {"count": torch.tensor(5)})


def test_labels_of_the_average_are_distributions(tmp_path):
    loop, _, _ = traced(tmp_path, ema=0.9, options={"algo": {"label_lr": 5.0}})
    labels = loop.result.synthetic.all().labels
    assert bool((labels >= 0).all())
    torch.testing.assert_close(labels.sum(1), torch.ones(len(labels)))


def test_a_resumed_run_is_bit_exact(tmp_path):
    whole, _, _ = traced(tmp_path / "whole", steps=5, ema=0.9)
    config = small_config(steps=5, ema=0.9)
    loop = OuterLoop(small_assembly(steps=5, ema=0.9), tmp_path / "parts")
    assert not loop.run(stop=lambda: loop.step == 3)
    state = load_checkpoint(tmp_path / "parts", config)
    parts = assemble(config, installed(), class_grid=state["class_grid"], notes=state["notes"])
    again = OuterLoop(parts, tmp_path / "parts")
    again.load_state_dict(state)
    assert again.run()
    assert_equal(values(again.assembly.synthetic), values(whole.assembly.synthetic))
    assert_equal(values(again.result.synthetic), values(whole.result.synthetic))


def test_the_best_average_is_kept(tmp_path):
    accuracies = iter([0.2, 0.9, 0.1])
    seen = []
    evaluate = {"every": 1, "select": "best"}
    loop = OuterLoop(small_assembly(steps=3, ema=0.9, evaluate=evaluate), tmp_path)

    def validate() -> list[float]:
        seen.append(values(loop.result.synthetic))
        return [next(accuracies)]

    loop.validate = validate
    loop.run()
    trained = values(loop.assembly.synthetic)
    loop.use_best()
    assert_equal(values(loop.result.synthetic), seen[1])
    assert_equal(values(loop.assembly.synthetic), trained)


def test_the_artefact_and_the_verdict_are_of_the_average(tmp_path):
    config = small_config(ema=0.9)
    run_command.run(config, installed(), tmp_path / "run", resume=False, overwrite=False)
    state = load_checkpoint(tmp_path / "run", config)
    tensors, metadata = read_tensors(tmp_path / "run" / "distilled.safetensors")
    stored = state_of(tensors, metadata["same"])
    assert_equal(stored, state["average"])
    assert any(not torch.equal(stored[name], state["synthetic"][name]) for name in stored)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["averaged"] == "moving average, run.ema = 0.9"
    parts = small_assembly(ema=0.9)
    parts.synthetic.load_state_dict(state["average"])
    assert torch.equal(load(tmp_path / "run").images, candidate_of(parts).batch.images)


def test_a_running_run_is_judged_by_its_average(tmp_path):
    config = small_config(ema=0.9)
    begin(tmp_path / "run", config, overwrite=False)
    loop = OuterLoop(small_assembly(ema=0.9), tmp_path / "run")
    loop.run()
    real = load_real(config, installed())
    found, _ = find_candidate(tmp_path / "run", config, installed(), real)
    images, labels = loop.result.synthetic.all()
    assert torch.equal(found.batch.images, images)
    assert torch.equal(found.batch.labels, labels)
    assert not torch.equal(images, loop.assembly.synthetic.all().images)

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_core.artefact.saving import ArtefactWriter
from distill_core.contracts.algorithm import HypergradientError
from distill_core.run.assemble import assemble
from distill_core.run.checkpoint import load_checkpoint
from distill_core.run.loop import OuterLoop
from distill_core.run.recording import save_result
from distill_core.run.save_on_failure import save_on_failure
from distill_core.system.out_of_memory import OutOfMemory
from registry import ContractError, EnvironmentFault
from tests.distill_core.small_run import installed, small_assembly, small_config


class Recorder:
    def __init__(self):
        self.steps, self.validations = [], []

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        self.steps.append((step, metrics["loss"]))

    def after_validation(self, step: int, accuracies: Sequence[float]) -> None:
        self.validations.append((step, *accuracies))


def final_state(loop: OuterLoop) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in loop.assembly.synthetic.state_dict().items()}


@settings(max_examples=6)
@given(
    stop_after=st.integers(1, 4),
    inner=st.sampled_from(["adam", "sgd"]),
    labeler=st.sampled_from(["poddl", "soft"]),
    curriculum=st.sampled_from(["random", "adaptive"]),
)
def test_resume_is_bit_exact_at_any_step(stop_after, inner, labeler, curriculum, tmp_path_factory):
    algo = {"inner_optimizer": inner, "batch": 4, "curriculum": curriculum}
    changes = {"labeler": labeler, "steps": 5, "options": {"algo": {**algo, "epoch_steps": 2}}}
    whole = Recorder()
    straight = OuterLoop(
        small_assembly(**changes), tmp_path_factory.mktemp("whole"), observers=[whole]
    )
    assert straight.run()

    run_dir = tmp_path_factory.mktemp("parts")
    first, second = Recorder(), Recorder()
    loop = OuterLoop(small_assembly(**changes), run_dir, observers=[first])
    assert not loop.run(stop=lambda: loop.step == stop_after)
    config = small_config(**changes)
    state = load_checkpoint(run_dir, config)
    again = OuterLoop(
        assemble(config, installed(), class_grid=state["class_grid"], notes=state["notes"]),
        run_dir,
        observers=[second],
    )
    again.load_state_dict(state)
    torch.rand(7)  # the global state must not matter
    assert again.run()

    assert first.steps + second.steps == whole.steps
    for name, tensor in final_state(straight).items():
        assert torch.equal(tensor, final_state(again)[name]), name


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    torch.manual_seed(1)
    one = OuterLoop(small_assembly(), tmp_path / "one")
    one.run()
    torch.manual_seed(2)
    two = OuterLoop(small_assembly(), tmp_path / "two")
    two.run()
    other = OuterLoop(small_assembly(seed=1), tmp_path / "other")
    other.run()
    for name, tensor in final_state(one).items():
        assert torch.equal(tensor, final_state(two)[name])
        assert not torch.equal(tensor, final_state(other)[name])


def test_steps_are_counted_and_a_time_limit_ends_the_run(tmp_path):
    recorder = Recorder()
    loop = OuterLoop(small_assembly(minutes=1e-9), tmp_path, observers=[recorder])
    assert loop.run()
    assert loop.step == 1
    assert [step for step, _ in recorder.steps] == [1]


def test_the_best_state_on_validation_is_kept(tmp_path):
    accuracies = iter([0.2, 0.9, 0.1])
    states = []
    recorder = Recorder()
    evaluate = {"every": 1, "select": "best"}
    loop = OuterLoop(small_assembly(steps=3, evaluate=evaluate), tmp_path, observers=[recorder])

    def validate() -> list[float]:
        states.append(final_state(loop))
        return [next(accuracies)]

    loop.validate = validate
    loop.run()
    loop.use_best()
    assert loop.best["step"] == 2
    assert recorder.validations == [(1, 0.2), (2, 0.9), (3, 0.1)]
    for name, tensor in final_state(loop).items():
        assert torch.equal(tensor, states[1][name])


def test_the_record_names_the_best_step_where_its_state_is_saved(tmp_path):
    accuracies, found = iter([0.9, 0.1]), []
    evaluate = {"every": 1, "select": "best"}
    loop = OuterLoop(small_assembly(steps=2, evaluate=evaluate), tmp_path)
    loop.validate = lambda: [next(accuracies)]
    writer = ArtefactWriter(tmp_path, loop.assembly.real)

    def save() -> None:
        save_result(installed(), writer, loop)
        found.append(json.loads((tmp_path / "manifest.json").read_text())["best_step"])

    loop.on_checkpoint = save  # as in a run: the last state, though an earlier one is better
    loop.run()
    loop.use_best()
    save()
    assert found == [None, 1]


def test_learned_rates_are_those_of_the_best_state(tmp_path):
    accuracies = iter([0.2, 0.9, 0.1])
    rates = []
    changes = {
        "algo": "dd",
        "steps": 3,
        "evaluate": {"every": 1, "select": "best"},
        "options": {"algo": {"steps": 2, "batch": 8, "real_batch": 16, "pixel_lr": 0.5}},
    }
    loop = OuterLoop(small_assembly(**changes), tmp_path)

    def validate() -> list[float]:
        rates.append(loop.assembly.algorithm.recipe().lr)
        return [next(accuracies)]

    loop.validate = validate
    loop.run()
    again = OuterLoop(small_assembly(**changes), tmp_path)
    again.load_state_dict(load_checkpoint(tmp_path, small_config(**changes)))
    for each in (loop, again):
        assert each.assembly.algorithm.recipe().lr == rates[2] != rates[1]
        each.use_best()
        assert each.assembly.algorithm.recipe().lr == rates[1]


def resumed(loop: OuterLoop, **changes) -> OuterLoop:
    again = OuterLoop(small_assembly(**changes), loop.run_dir)
    again.load_state_dict(load_checkpoint(loop.run_dir, small_config(**changes)))
    return again


@pytest.mark.parametrize("fails_at", [1, 3])  # while it goes on, and in its last step
def test_a_validation_that_failed_is_made_up_for(fails_at, tmp_path):
    changes = {"steps": 3, "evaluate": {"every": 1, "select": "best"}}
    accuracies = {1: 0.9, 2: 0.2, 3: 0.95}
    loop = OuterLoop(small_assembly(**changes), tmp_path)

    def validate() -> list[float]:
        if loop.step == fails_at:
            raise RuntimeError("no")
        return [accuracies[loop.step]]

    loop.validate = validate
    with pytest.raises(RuntimeError), save_on_failure(loop):
        loop.run()
    again, recorder = resumed(loop, **changes), Recorder()
    again.observers, again.validate = [recorder], lambda: [accuracies[again.step]]
    again.run()
    assert recorder.validations == [(k, accuracies[k]) for k in range(fails_at, 4)]
    assert again.best["step"] == 3
    once_more = resumed(again, **changes)
    once_more.validate = lambda: pytest.fail("it was validated")
    once_more.run()


def test_a_validation_without_memory_says_how_to_go_on_without_it(tmp_path):
    loop = OuterLoop(small_assembly(steps=2, evaluate={"every": 1}), tmp_path)

    def validate() -> list[float]:
        raise MemoryError

    loop.validate = validate
    with pytest.raises(OutOfMemory) as caught, save_on_failure(loop):
        loop.run()
    assert caught.value.expected == "room for the validation of outer step 1."
    assert "-o evaluate.every=0. The state is saved at outer step 1" in caught.value.next


def test_a_validation_that_is_recorded_when_the_disk_fills_is_not_repeated(tmp_path):
    class Full(Recorder):
        def after_validation(self, step: int, accuracies: Sequence[float]) -> None:
            super().after_validation(step, accuracies)
            raise OSError(28, "No space left on device")

    changes = {"steps": 2, "evaluate": {"every": 1}}
    loop = OuterLoop(small_assembly(**changes), tmp_path, observers=[Full()])
    loop.validate = lambda: [0.5]
    with pytest.raises(EnvironmentFault), save_on_failure(loop):
        loop.run()
    again, recorder = resumed(loop, **changes), Recorder()
    again.observers, again.validate = [recorder], lambda: [0.5]
    again.run()
    assert recorder.validations == [(2, 0.5)]


def test_the_best_state_of_an_earlier_version_is_judged_again(tmp_path):
    changes = {"steps": 2, "evaluate": {"every": 1, "select": "best"}}
    loop = OuterLoop(small_assembly(**changes), tmp_path)
    loop.validate = lambda: [0.9]
    loop.run(stop=lambda: loop.step == 1)
    again = resumed(loop, **changes)
    del again.best["terms"]  # it kept none, and may have judged by another protocol
    again.validate = lambda: [0.4]
    again.run()
    assert (again.best["step"], again.best["accuracy"]) == (1, 0.4)


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize(("by_others", "best_step"), [([0.7, 0.4], 2), ([0.3, 0.4], 4)])
def test_states_that_are_compared_are_judged_on_the_same_terms(ema, by_others, best_step, tmp_path):
    changes = {"steps": 4, "ema": ema}
    evaluate = {"every": 2, "select": "best"}
    loop = OuterLoop(small_assembly(**changes, evaluate=evaluate), tmp_path)
    loop.validate = lambda: [0.9]  # by the first protocol, which is kinder
    assert not loop.run(stop=lambda: loop.step == 2)
    states, accuracies = {2: final_state(loop)}, iter(by_others)
    averaged = {name: t.clone() for name, t in loop.result.synthetic.state_dict().items()}
    judged = []
    again = resumed(loop, **changes, evaluate={**evaluate, "protocol": "mtt", "steps": 9})

    def validate() -> list[float]:
        judged.append({n: t.clone() for n, t in again.result.synthetic.state_dict().items()})
        return [by_others[1] if len(judged) == 1 else next(accuracies)]

    again.validate = validate
    again.run()
    states[4] = final_state(again)
    assert len(judged) == 2  # the newest state, and the best so far
    for name, tensor in averaged.items():
        assert torch.equal(judged[1][name], tensor)
    straight = OuterLoop(small_assembly(**changes), tmp_path / "straight")
    straight.run()
    for name, tensor in final_state(straight).items():
        assert torch.equal(states[4][name], tensor)  # judging the other state has changed nothing
    assert (again.best["step"], again.best["accuracy"]) == (best_step, max(by_others))


def test_the_gradient_of_a_penalty_is_added_to_the_hypergradient(tmp_path, monkeypatch):
    gradients = {}
    for name in ("without", "with"):
        loop = OuterLoop(small_assembly(steps=1), tmp_path / name)
        representation = loop.assembly.synthetic.representation
        (pixels,) = representation.parameters()
        if name == "with":
            monkeypatch.setattr(representation, "penalty", lambda pixels=pixels: 3 * pixels.sum())
        loop.run()
        gradients[name] = pixels.grad
    torch.testing.assert_close(gradients["with"], gradients["without"] + 3)


def test_labels_stay_distributions_through_a_run(tmp_path):
    assembly = small_assembly(options={"algo": {"label_lr": 5.0}})
    OuterLoop(assembly, tmp_path).run()
    labels = assembly.synthetic.all().labels
    assert bool((labels >= 0).all())
    torch.testing.assert_close(labels.sum(1), torch.ones(len(labels)))


def test_an_algorithm_that_draws_from_the_global_state_is_named(tmp_path, monkeypatch):
    assembly = small_assembly()
    outer_step = assembly.algorithm.outer_step

    def careless(*arguments, **named):
        torch.rand(1)
        return outer_step(*arguments, **named)

    monkeypatch.setattr(assembly.algorithm, "outer_step", careless)
    loop = OuterLoop(assembly, tmp_path)
    before = final_state(loop)
    with pytest.raises(ContractError, match=r"'ratbptt' of .* global random state in `outer_step`"):
        loop.run()
    assert loop.step == 0
    for name, tensor in final_state(loop).items():
        assert torch.equal(tensor, before[name]), name


def test_a_hypergradient_that_is_not_finite_stops_before_the_update(tmp_path):
    assembly = small_assembly()
    before = {name: t.clone() for name, t in assembly.synthetic.state_dict().items()}
    parameter = next(assembly.synthetic.representation.parameters())
    parameter.register_hook(lambda gradient: gradient * float("nan"))
    loop = OuterLoop(assembly, tmp_path)
    with pytest.raises(HypergradientError, match="group 'data' in outer step 1 is not finite"):
        loop.run()
    for name, tensor in assembly.synthetic.state_dict().items():
        assert torch.equal(tensor, before[name])

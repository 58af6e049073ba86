from __future__ import annotations

import json

import pytest
import torch

from distill_core.builtin.algorithms.regression.kernel_regression import fit_ridge_head
from distill_core.contracts.algorithm import DivergenceError, HypergradientError
from distill_core.distributed.ranks import Ranks
from distill_core.run import divergence
from distill_core.run.assemble import assemble
from distill_core.run.checkpoint import checkpoint_path, load_checkpoint
from distill_core.run.divergence import check_hypergradients, smaller
from distill_core.run.loop import OuterLoop
from distill_core.run.observers import MetricsFile
from distill_core.run.save_on_failure import save_on_failure
from distill_core.run.state import trained_groups
from registry import Options
from tests.distill_core.small_run import installed, small_assembly, small_config

HALVE = {"on_divergence": "halve-lr", "steps": 6}


def poisoned(loop, at, value=float("nan")):
    """Make the gradient of the pixels in outer step `at` (from 0) bad while rates are whole."""
    algorithm = loop.assembly.algorithm
    step_of = algorithm.outer_step

    def outer_step(synthetic, *, step, rng):
        metrics = step_of(synthetic, step=step, rng=rng)
        if step == at and loop.schedule.scale == 1.0:
            loop.groups["data"][0].grad.view(-1)[0] = value
        return metrics

    algorithm.outer_step = outer_step
    return loop


def state_of(loop):
    return {name: t.clone() for name, t in loop.assembly.synthetic.state_dict().items()}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_stop_names_step_and_group_and_saves_the_state_before(value, tmp_path):
    loop = poisoned(OuterLoop(small_assembly(steps=6), tmp_path), 2, value)
    with pytest.raises(DivergenceError) as caught, save_on_failure(loop):
        loop.run()
    assert caught.value.what == ("the hypergradient of group 'data' in outer step 3 is not finite.")
    assert "The state is saved at outer step 2; go on with `distill run --resume" in str(
        caught.value.next
    )
    state = load_checkpoint(tmp_path, small_config(steps=6))
    assert state["step"] == 2
    straight = OuterLoop(small_assembly(steps=6), tmp_path / "straight")
    straight.run(stop=lambda: straight.step == 2)
    for name, tensor in state_of(straight).items():
        assert torch.equal(tensor, state["synthetic"][name]), name
    streams = load_checkpoint(tmp_path / "straight", small_config(steps=6))["streams"]
    assert all(torch.equal(streams[name], state["streams"][name]) for name in streams)


def test_an_update_that_is_not_finite_is_not_saved(tmp_path):
    loop = OuterLoop(small_assembly(steps=6), tmp_path)
    loop.run(stop=lambda: loop.step == 1)

    def broken(progress):
        for group in loop.optimizer.param_groups:
            group["lr"] = float("inf")

    loop.schedule.apply = broken
    with (
        pytest.raises(DivergenceError, match="in outer step 2 is not finite"),
        save_on_failure(loop),
    ):
        loop.run()
    assert load_checkpoint(tmp_path, small_config(steps=6))["step"] == 1


def test_a_hypergradient_that_cannot_be_squared_is_refused():
    """Adam's second moment would be infinite, and its numbers would never change again."""
    assembly = small_assembly()
    groups = trained_groups(assembly)
    for parameter in (*groups["data"], *groups["labels"]):
        parameter.grad = torch.ones_like(parameter)
    most = torch.finfo(torch.float32).max ** 0.5
    (pixels,) = groups["data"]
    pixels.grad[0, 0, 0, 0] = 0.9 * most
    norms = check_hypergradients(groups, step=1, config=assembly.config)
    assert norms["data"] == pytest.approx(0.9 * most)
    pixels.grad[0, 0, 0, 0] = 40 * most
    before = pixels.detach().clone()
    optimizer = torch.optim.Adam([pixels], lr=1.0)
    optimizer.step()
    assert pixels[0, 0, 0, 0] == before[0, 0, 0, 0]
    with pytest.raises(DivergenceError, match="group 'data' in outer step 2 is too large: its no"):
        check_hypergradients(groups, step=1, config=assembly.config)


def test_rates_are_named_where_the_algorithm_has_them():
    config = small_config()
    assert "(-o algo.pixel_lr, -o algo.label_lr)" in smaller(config)
    config.options["algo"] = Options()
    assert "(`distill show algorithm ratbptt` shows its options)" in smaller(config)


def test_halving_goes_back_is_recorded_and_finishes(tmp_path, monkeypatch):
    monkeypatch.setattr(divergence, "EVERY", 2)
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    loop = poisoned(OuterLoop(small_assembly(**HALVE), tmp_path, observers=[metrics]), 5)
    assert loop.run()
    assert loop.divergences == [
        {
            "outer_step": 5,
            "what": "the hypergradient of group 'data' in outer step 6 is not finite.",
            "back_to": 2,
            "rates_times": 0.5,
        }
    ]
    whole = [group["lr"] for group in OuterLoop(small_assembly(), tmp_path).optimizer.param_groups]
    assert [group["lr"] for group in loop.optimizer.param_groups] == [rate / 2 for rate in whole]
    lines = [json.loads(line) for line in metrics.path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2, 3, 4, 5, 6]
    assert lines[2]["kind"] == "divergence"


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_halving_is_the_same_after_an_interruption(stop_after, tmp_path, monkeypatch):
    """Also when the interruption comes between a kept state and the going back."""
    monkeypatch.setattr(divergence, "EVERY", 2)
    straight = poisoned(OuterLoop(small_assembly(**HALVE), tmp_path / "whole"), 4)
    straight.run()
    loop = poisoned(OuterLoop(small_assembly(**HALVE), tmp_path / "parts"), 4)
    assert not loop.run(stop=lambda: loop.step == stop_after)
    config = small_config(**HALVE)
    state = load_checkpoint(tmp_path / "parts", config)
    again = OuterLoop(
        assemble(config, installed(), class_grid=state["class_grid"], notes=state["notes"]),
        tmp_path / "parts",
    )
    again.load_state_dict(state)
    assert poisoned(again, 4).run()
    assert again.divergences == straight.divergences
    for name, tensor in state_of(straight).items():
        assert torch.equal(tensor, state_of(again)[name]), name


def test_it_ends_after_so_many_times(tmp_path):
    loop = OuterLoop(small_assembly(**HALVE), tmp_path)
    algorithm = loop.assembly.algorithm
    step_of, calls = algorithm.outer_step, []

    def outer_step(synthetic, *, step, rng):
        calls.append(step)
        metrics = step_of(synthetic, step=step, rng=rng)
        loop.groups["data"][0].grad.fill_(float("nan"))
        return metrics

    algorithm.outer_step = outer_step
    with pytest.raises(DivergenceError):
        loop.run()
    assert calls == [0] * (divergence.LIMIT + 1)
    assert checkpoint_path(tmp_path).exists()


def broken_loss(loop, at, error=None):
    """Make the loss, not the gradient, of outer step `at` bad while rates are whole."""
    algorithm = loop.assembly.algorithm
    step_of = algorithm.outer_step

    def outer_step(synthetic, *, step, rng):
        metrics = dict(step_of(synthetic, step=step, rng=rng))
        if step == at and loop.schedule.scale == 1.0:
            if error:
                raise error
            metrics["loss"] = float("inf")
        return metrics

    algorithm.outer_step = outer_step
    return loop


def unsolvable():
    """The error of a regression on features that are not finite."""
    with pytest.raises(DivergenceError) as caught:
        fit_ridge_head(torch.full((3, 2), float("nan")), torch.ones(3, 2), ridge=1e-6)
    return caught.value


@pytest.mark.parametrize("error", [None, unsolvable], ids=["loss", "regression"])
def test_losses_and_regressions_gone_bad_stop_with_the_state_before(error, tmp_path):
    loop = broken_loss(OuterLoop(small_assembly(steps=6), tmp_path), 2, error and error())
    with pytest.raises(DivergenceError) as caught, save_on_failure(loop):
        loop.run()
    wanted = "kernel regression has no solution: " if error else "the loss of outer step 3 is inf."
    assert caught.value.what.startswith(wanted)
    assert "The state is saved at outer step 2; go on with" in caught.value.next
    state = load_checkpoint(tmp_path, small_config(steps=6))
    straight = OuterLoop(small_assembly(steps=6), tmp_path / "straight")
    straight.run(stop=lambda: straight.step == 2)
    for name, tensor in state_of(straight).items():
        assert torch.equal(tensor, state["synthetic"][name]), name


@pytest.mark.parametrize("error", [None, unsolvable], ids=["loss", "regression"])
def test_halving_applies_to_them(error, tmp_path):
    loop = broken_loss(OuterLoop(small_assembly(**HALVE), tmp_path), 3, error and error())
    assert loop.run()
    assert [each["outer_step"] for each in loop.divergences] == [3]


def test_trouble_of_another_process_stops_this_one_before_the_update(tmp_path):
    class Troubled(Ranks):
        def any(self, *flags):
            return (True,) if len(flags) == 1 else flags

    loop = OuterLoop(small_assembly(steps=6), tmp_path, ranks=Troubled())
    with pytest.raises(DivergenceError, match="another process are not finite in outer step 1"):
        loop.run()


def test_a_group_without_hypergradient_is_an_error_in_the_first_step_only():
    assembly = small_assembly()
    groups = trained_groups(assembly)
    assert set(groups) == {"data", "labels"}
    for parameter in groups["data"]:
        parameter.grad = torch.ones_like(parameter)
    with pytest.raises(HypergradientError) as caught:
        check_hypergradients(groups, step=0, config=assembly.config)
    assert str(caught.value) == (
        "algorithm 'ratbptt' sends no hypergradient to group 'labels'.\n"
        "Expected a gradient in every group that is learned.\n"
        "Next: choose a labeler with fixed labels, or an algorithm that trains them."
    )
    check_hypergradients(groups, step=1, config=assembly.config)

from __future__ import annotations

import random
from copy import deepcopy

import numpy as np
import pytest
import torch

from distill_core.artefact.saving import ArtefactWriter
from distill_core.contracts.streams import seeded
from distill_core.run.algorithm_checks import check_metrics
from distill_core.run.checks import check_differentiable, check_synthetic, watched
from distill_core.run.loop import OuterLoop
from distill_core.run.recording import save_result
from registry import ContractError
from tests.distill_core.largest import Results
from tests.distill_core.small_run import installed, small_assembly


@pytest.fixture(scope="module")
def synthetic():
    return small_assembly().synthetic


def _check(synthetic):
    named = {"representation": "representation 'r' of p", "labeler": "labeler 'l' of q"}
    check_synthetic(synthetic, named, dtype=torch.float32)


def _then(function, action):
    def changed(*args):
        result = function(*args)
        action(result, *args)
        return result

    return changed


def test_components_that_keep_their_contract_pass(synthetic):
    _check(synthetic)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda labels: labels[:, :-1], r"gives labels \(10, 5\)"),
        (lambda labels: labels[0], r"gives labels \(6,\)"),
        (lambda labels: None, "gives labels NoneType"),
        (lambda labels: labels.double(), r"gives labels of torch\.float64"),
        (lambda labels: (labels > 0.5).long(), r"gives labels of torch\.int64"),
        (lambda labels: labels * float("nan"), "60 numbers are not finite"),
        (lambda labels: labels * 2, r"not distributions .* from 2 to 2"),
        (lambda labels: labels - 0.5, "not distributions .smallest number -0.5"),
    ],
)
def test_labels_that_break_the_contract_are_named(synthetic, monkeypatch, wrong, message):
    labels = synthetic.labeler.labels
    monkeypatch.setattr(synthetic.labeler, "labels", lambda *args: wrong(labels(*args)))
    with pytest.raises(ContractError, match=message) as caught:
        _check(synthetic)
    assert caught.value.what.startswith("labeler 'l' of q ")


def test_labels_off_the_simplex_pass_where_that_is_said(synthetic, monkeypatch):
    labels = synthetic.labeler.labels
    monkeypatch.setattr(synthetic.labeler, "labels", lambda *args: labels(*args) - 0.5)
    monkeypatch.setattr(synthetic.labeler, "simplex", False, raising=False)
    _check(synthetic)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda images: images[:, :1],
        lambda images: images[1:],
        lambda images: images / 0,
        lambda images: images.half(),
    ],
)
def test_images_that_break_the_contract_are_named(synthetic, monkeypatch, wrong):
    expand = synthetic.representation.expand
    monkeypatch.setattr(synthetic.representation, "expand", lambda boxes: wrong(expand(boxes)))
    with pytest.raises(ContractError, match=r"^representation 'r' of p gives images"):
        _check(synthetic)


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.rand(1), np.random.rand, random.random],
    ids=["torch", "numpy", "random"],
)
def test_draws_from_the_global_random_state_are_found(synthetic, monkeypatch, draw):
    labels = synthetic.labeler.labels
    drawing = _then(labels, lambda *_: draw())
    monkeypatch.setattr(synthetic.labeler, "labels", drawing)
    with pytest.raises(ContractError, match="draws from the global random state in `labels`"):
        _check(synthetic)


@pytest.fixture
def cuda_state(monkeypatch):
    """The state of a CUDA generator that is not there, but is seeded as one that is."""
    state = torch.zeros(8, dtype=torch.uint8)

    def seed_all(seed):
        state.copy_(torch.tensor(list(int(seed).to_bytes(8, "little"))))

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [state.clone()])
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seed_all)
    return state


def test_draws_on_a_cuda_device_are_found(synthetic, monkeypatch, cuda_state):
    _check(synthetic)
    labels = synthetic.labeler.labels
    drawing = _then(labels, lambda *_: cuda_state.add_(1))
    monkeypatch.setattr(synthetic.labeler, "labels", drawing)
    with pytest.raises(ContractError, match="draws from the global random state in `labels`"):
        _check(synthetic)


def test_torch_seeds_cuda_generators_along(cuda_state):
    """What the fake state stands for: or else the next test would say nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
    assert cuda_state.tolist() == [7, 0, 0, 0, 0, 0, 0, 0]


def test_a_new_network_draws_from_no_cuda_generator(cuda_state):
    make = small_assembly().make_backbone
    with watched("algorithm 'a' of p", "outer_step"):
        make(seeded(0, "backbone"))
    assert not cuda_state.any()


def test_a_new_network_in_a_cuda_run_does_not_hide_draws(cuda_state):
    make = small_assembly().make_backbone

    def outer_step():
        with watched("algorithm 'a' of p", "outer_step"):
            make(seeded(0, "backbone"))
            cuda_state.add_(1)

    with pytest.raises(ContractError, match="draws from the global random state in `outer_step`"):
        outer_step()


def test_a_run_in_another_type_is_checked_as_it_is(synthetic):
    """Benchmarks turn whole runs into float64 to measure rounding."""
    check_synthetic(deepcopy(synthetic).double(), {"representation": "r", "labeler": "l"})


def test_parameters_that_nothing_leads_to_are_found(synthetic, monkeypatch):
    """The first backward pass failed, in words of PyTorch."""
    named = {"representation": "representation 'r' of p", "labeler": "labeler 'l' of q"}
    assert set(synthetic.groups()) == {"data", "labels"}
    check_differentiable(synthetic, named)
    labels, expand = synthetic.labeler.labels, synthetic.representation.expand
    monkeypatch.setattr(synthetic.labeler, "labels", lambda *args: labels(*args).detach())
    with pytest.raises(ContractError, match=r"^labeler 'l' of q gives labels without a gradient"):
        check_differentiable(synthetic, named)
    monkeypatch.setattr(synthetic.representation, "expand", lambda boxes: expand(boxes).detach())
    with pytest.raises(ContractError, match=r"^representation 'r' of p gives images without a gr"):
        check_differentiable(synthetic, named)


def test_changed_arguments_are_found(synthetic, monkeypatch):
    labels = synthetic.labeler.labels
    monkeypatch.setattr(
        synthetic.labeler, "labels", _then(labels, lambda result, boxes, images: images.zero_())
    )
    with pytest.raises(ContractError, match="changes its arguments in `labels`"):
        _check(synthetic)


def test_arguments_are_compared_without_a_copy_and_may_hold_nan():
    given = torch.full((5, 7), float("nan"))
    with Results() as results, watched("labeler 'a' of p", "labels", given):
        pass
    assert results.sizes == []


def test_a_run_is_refused_before_its_first_step(monkeypatch):
    from podd_plugin.poddl import Poddl as Labeler

    labels = Labeler.labels
    monkeypatch.setattr(Labeler, "labels", lambda self, *args: labels(self, *args) * 3)
    with pytest.raises(ContractError, match=r"labeler 'poddl' of podd .* not distributions"):
        small_assembly()


@pytest.mark.parametrize("found", [None, 0.5, {}, {"loss": "low"}, {"loss": torch.tensor(1.0)}])
def test_an_outer_step_that_returns_no_numbers_is_refused_by_name(found):
    with pytest.raises(ContractError, match=r"^algorithm 'own' of own \(own 2\) returns "):
        check_metrics("algorithm 'own' of own (own 2)", found)


def test_an_outer_step_returns_a_loss_and_other_numbers():
    check_metrics("algorithm 'own'", {"loss": 1.0, "unmatched": 2})


def test_a_labeler_whose_first_update_leaves_the_simplex_is_refused(monkeypatch, tmp_path):
    """It was found when the result of the whole run was read, which nobody could."""
    monkeypatch.setattr("podd_plugin.poddl.Poddl.project", lambda self: None)
    loop = OuterLoop(small_assembly(), tmp_path)
    with pytest.raises(ContractError, match=r"labeler 'poddl' of podd .* not distributions"):
        loop.run()
    assert loop.step == 0


def test_labels_that_leave_the_simplex_later_are_not_saved(tmp_path):
    loop = OuterLoop(small_assembly(), tmp_path)
    loop.step = 1
    labeler = loop.result.synthetic.labeler
    labels = labeler.labels
    labeler.labels = lambda *args: 3 * labels(*args)
    writer = ArtefactWriter(tmp_path, loop.assembly.real)
    with pytest.raises(ContractError, match=r"labeler 'poddl' of podd .* not distributions"):
        save_result(installed(), writer, loop)
    assert not list(tmp_path.iterdir())


def test_items_are_checked_some_at_a_time_without_all_images():
    sizes, synthetic = [], small_assembly().synthetic
    expand = synthetic.representation.expand
    synthetic.representation.expand = lambda boxes: (sizes.append(len(boxes)), expand(boxes))[1]
    check_synthetic(synthetic, {"representation": "r", "labeler": "l"}, at_once=4)
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda groups: None, "returns NoneType from `outer_optimizer`"),
        (lambda groups: torch.optim.SGD(groups["data"], lr=1), "leaves group 'labels' out"),
    ],
)
def test_an_outer_optimizer_that_would_leave_something_is_refused(optimizer, message, tmp_path):
    """A group that it leaves out never changed, and the run ended as if it had been learned."""
    assembly = small_assembly()
    assembly.algorithm.outer_optimizer = optimizer
    with pytest.raises(ContractError, match=rf"^algorithm 'ratbptt' of .* {message}"):
        OuterLoop(assembly, tmp_path)


def test_a_state_that_no_file_can_hold_is_refused_before_the_first_step(tmp_path):
    assembly = small_assembly()
    assembly.algorithm.state_dict = lambda: {"pool": [object()]}
    with pytest.raises(ContractError, match=r"cannot be saved: state\.pool\.0 is a object"):
        OuterLoop(assembly, tmp_path).run()


def test_an_algorithm_without_a_recipe_is_refused(monkeypatch):
    monkeypatch.setattr(
        "distill_core.builtin.algorithms.unrolled.ratbptt.RatBptt.recipe", lambda self: {"lr": 1}
    )
    with pytest.raises(ContractError, match="algorithm 'ratbptt' returns dict from `recipe`"):
        small_assembly()


def test_what_labels_raise_carries_their_labeler(synthetic, monkeypatch):
    monkeypatch.setattr(synthetic.labeler, "labels", lambda boxes: None)  # takes no images
    with pytest.raises(TypeError) as caught:
        _check(synthetic)
    assert caught.value.__notes__ == ["raised by labeler 'l' of q"]


@pytest.mark.parametrize("penalty", [3.0, torch.ones(2)])
def test_a_penalty_that_is_no_scalar_is_refused_by_name(penalty, tmp_path):
    assembly = small_assembly()
    assembly.synthetic.representation.penalty = lambda: penalty
    with pytest.raises(ContractError, match=r"^representation 'poster' of podd .* from `penalty`"):
        OuterLoop(assembly, tmp_path).run()


def test_images_that_are_none_are_refused_before_a_labeler_looks_at_them(monkeypatch):
    monkeypatch.setattr("podd_plugin.poster.Poster.expand", lambda self, boxes: None)
    with pytest.raises(ContractError, match=r"^representation 'poster' of .* images NoneType"):
        small_assembly()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda canvases: canvases[:, :1], r"gives canvases \(6, 1, 8, 8\)"),
        (lambda canvases: canvases[..., 1:], r"gives canvases \(6, 3, 8, 7\)"),
        (lambda canvases: None, "gives canvases NoneType"),
        (lambda canvases: canvases / 0, "gives canvases of which .* not finite"),
    ],
)
def test_canvases_of_another_shape_are_refused_at_the_start(wrong, message, monkeypatch):
    """The first save met them: after minutes of work, by an error from within."""
    from distill_core.builtin.representations.images import Images

    canvases = Images.canvases
    monkeypatch.setattr(Images, "canvases", lambda self: wrong(canvases(self)))
    with pytest.raises(ContractError, match=f"^representation 'images' of .* {message}"):
        small_assembly(repr="images", ipc=1)

"""The adjoint sweep against a graph of the whole training, and against central differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.derivatives import InnerLoss
from distill_core.contracts.network import FlatModel
from distill_core.contracts.streams import global_seed, seeded
from distill_core.engine.autograd import AutogradLoss
from distill_core.engine.convnet import ConvNetLoss
from distill_core.engine.losses import soft_cross_entropy
from distill_core.engine.optimizers import Adam, InnerOptimizer, Sgd
from distill_core.engine.unroll import unroll
from registry import InputError
from tests.distill_core.engine.small import Listed, graph_unroll, small_model, some_batches
from tests.distill_core.engine.test_optimizers import OPTIMIZERS


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_unrolled_training_equals_plain_training(name: str) -> None:
    ours, theirs = OPTIMIZERS[name]
    model, batches = small_model(), some_batches(7)
    parameter = nn.Parameter(model.theta.clone())
    optimizer = theirs([parameter])
    for images, labels in batches.batches:
        optimizer.zero_grad()
        logits = model.logits(parameter, images.detach())
        soft_cross_entropy(logits, labels.detach()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for warm_up in (0, 3, 7):
        trained = unroll(
            AutogradLoss(model), ours, model.theta, batches, warm_up=warm_up, window=7 - warm_up
        )
        assert torch.allclose(trained.theta, parameter.detach(), rtol=1e-11, atol=1e-13)
        assert not trained.theta.requires_grad


def test_batches_are_asked_for_in_order_and_again_going_back() -> None:
    model, batches = small_model(), some_batches(5)
    trained = unroll(AutogradLoss(model), Adam(0.1), model.theta, batches, warm_up=3, window=2)
    assert batches.asked == [(step, False) for step in range(5)]
    assert batches.flushed == 0
    trained.backward(torch.ones_like(trained.theta))
    assert batches.asked[5:] == [(4, True), (3, True)]
    assert batches.flushed == 1
    for step, batch in enumerate(batches.batches):
        for part in batch:
            assert (part.grad is not None) == (step >= 3)


def dense_network() -> tuple[InnerLoss, tuple[int, int, int]]:
    return AutogradLoss(small_model()), (1, 2, 2)


def convnet_by_kernels() -> tuple[InnerLoss, tuple[int, int, int]]:
    spec = DataSpec("made", ("a", "b", "c"), (3, 6, 5), ())
    with global_seed(seeded(0)):
        network = ConvNet(ConvNetOptions(width=4, depth=2), spec=spec).double()
    structure = network.conv_blocks()
    assert structure is not None
    return ConvNetLoss(FlatModel(network), structure), spec.image_shape


@pytest.mark.parametrize("make", [dense_network, convnet_by_kernels])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_backward_agrees_with_central_differences(
    name: str, make: Callable[[], tuple[InnerLoss, tuple[int, int, int]]]
) -> None:
    """The oracle trains by PyTorch's own optimizer; the warm-up sees the data as they were."""
    ours, theirs = OPTIMIZERS[name]
    loss_of, shape = make()
    model, batches, warm_up = loss_of.model, some_batches(6, shape), 2
    cotangent = torch.randn(model.theta.shape, generator=seeded(1)).double()
    trained = unroll(loss_of, ours, model.theta, batches, warm_up=warm_up, window=4)
    trained.backward(cotangent)

    def end(directions: list[tuple[Tensor, Tensor]], size: float) -> float:
        parameter = nn.Parameter(model.theta.clone())
        optimizer = theirs([parameter])
        for step, (batch, along) in enumerate(zip(batches.batches, directions, strict=True)):
            moved = size if step >= warm_up else 0.0
            images, labels = (
                part.detach() + moved * d for part, d in zip(batch, along, strict=True)
            )
            optimizer.zero_grad()
            loss = soft_cross_entropy(model.logits(parameter, images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return float(parameter.detach() @ cotangent)

    generator = seeded(2)
    for only in (0, 1):  # images, then labels
        directions = [
            tuple(
                torch.randn(part.shape, generator=generator).double() * (place == only)
                for place, part in enumerate(batch)
            )
            for batch in batches.batches
        ]
        slope = sum(
            float((part.grad * along).sum())
            for batch, pair in zip(batches.batches, directions, strict=True)
            for part, along in zip(batch, pair, strict=True)
            if part.grad is not None
        )
        step = 1e-6  # a larger one crosses kinks of ReLU
        measured = (end(directions, step) - end(directions, -step)) / (2 * step)
        assert slope == pytest.approx(measured, rel=1e-5)


def optimizers() -> st.SearchStrategy[InnerOptimizer]:
    decays = st.sampled_from([0.0, 0.5, 0.9])
    adam = st.builds(lambda beta: Adam(0.01, betas=(beta, 0.99), eps=1e-3), decays)
    return adam | st.builds(Sgd, st.just(0.1), decays, st.sampled_from([0.0, 0.1]))


@st.composite
def networks(draw: st.DrawFn) -> tuple[ConvNet, tuple[int, int, int]]:
    channels = draw(st.sampled_from([1, 3]))
    h, w = draw(st.integers(4, 9)), draw(st.integers(4, 9))
    depth = draw(st.integers(1, min(h, w).bit_length() - 1))
    spec = DataSpec("made", ("a", "b", "c"), (channels, h, w), ())
    options = ConvNetOptions(width=draw(st.integers(1, 5)), depth=depth)
    with global_seed(seeded(draw(st.integers(0, 99)))):
        return ConvNet(options, spec=spec).double(), spec.image_shape


def hypergradient(
    loss: InnerLoss, optimizer: InnerOptimizer, batches: Listed, warm_up: int, window: int
) -> tuple[Tensor, list[Tensor]]:
    theta = loss.model.theta
    trained = unroll(loss, optimizer, theta, batches, warm_up=warm_up, window=window)
    start = trained.backward(torch.linspace(-1, 1, len(theta), dtype=theta.dtype))
    return start, [grad for grad in batches.grads() if grad is not None]


@given(networks(), optimizers(), st.integers(0, 2), st.integers(1, 3), st.data())
@settings(max_examples=25)
def test_both_paths_equal_the_graph_of_the_whole_window(
    made: tuple[ConvNet, tuple[int, int, int]],
    optimizer: InnerOptimizer,
    warm_up: int,
    window: int,
    data: st.DataObject,
) -> None:
    backbone, shape = made
    size = data.draw(st.integers(1, 5), "batch")
    microbatch = data.draw(st.sampled_from([None, 2]), "microbatch")
    cache = data.draw(st.sampled_from([0, 10_000, 2**30]), "bytes of activations")
    model, steps = FlatModel(backbone), warm_up + window
    structure = backbone.conv_blocks()
    assert structure is not None
    reference = some_batches(steps, shape, size=size)
    theta = graph_unroll(model, optimizer, reference, warm_up=warm_up, window=window)
    theta.backward(torch.linspace(-1, 1, len(theta), dtype=theta.dtype))
    expected = [grad for grad in reference.grads() if grad is not None]
    for loss in (
        AutogradLoss(model, microbatch, activation_cache=cache),
        ConvNetLoss(model, structure, microbatch=microbatch, activation_cache=cache),
    ):
        batches = some_batches(steps, shape, size=size)
        _, found = hypergradient(loss, optimizer, batches, warm_up, window)
        scale = max(float(grad.abs().max()) for grad in expected)
        for one, other in zip(found, expected, strict=True):
            assert float((one - other).abs().max()) <= 1e-8 * scale


@pytest.mark.parametrize("shape", [(), (5,)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learned_rates_get_their_gradient(name: str, shape: tuple[int, ...]) -> None:
    """A single rate collects over the window; of one rate a step, the warm-up's get none."""
    optimizer, _ = OPTIMIZERS[name]
    model, batches = small_model(), some_batches(5)
    rates = torch.full(shape, 0.05, dtype=torch.float64, requires_grad=True)
    twin = rates.detach().clone().requires_grad_()
    theta = graph_unroll(model, optimizer, some_batches(5), warm_up=2, window=3, rates=twin)
    cotangent = torch.linspace(-1, 1, len(theta), dtype=theta.dtype)
    theta.backward(cotangent)
    trained = unroll(
        AutogradLoss(model), optimizer, model.theta, batches, warm_up=2, window=3, rates=rates
    )
    trained.backward(cotangent)
    assert rates.grad is not None
    assert twin.grad is not None
    if shape:
        assert not rates.grad[:2].any()
        assert torch.allclose(rates.grad[2:], twin.grad[2:], rtol=1e-9)
    else:
        expected = graph_rate_gradient(name, cotangent)
        assert torch.allclose(rates.grad, expected, rtol=1e-9)


def graph_rate_gradient(name: str, cotangent: Tensor) -> Tensor:
    """The gradient in a single rate whose use in the warm-up is a constant."""
    rates = torch.full((5,), 0.05, dtype=torch.float64, requires_grad=True)
    optimizer, _ = OPTIMIZERS[name]
    theta = graph_unroll(
        small_model(), optimizer, some_batches(5), warm_up=2, window=3, rates=rates
    )
    (found,) = torch.autograd.grad(theta, rates, cotangent)
    return found[2:].sum()


def test_backward_returns_the_gradient_at_the_beginning_of_the_window() -> None:
    model, optimizer = small_model(), Sgd(0.1, 0.9, 0.01)
    start, _ = hypergradient(AutogradLoss(model), optimizer, some_batches(3), 0, 3)
    step, cotangent = 1e-6, torch.linspace(-1, 1, len(model.theta), dtype=torch.float64)
    along = torch.randn(len(model.theta), generator=seeded(3)).double()
    ends = []
    for size in (step, -step):
        moved = model.theta + size * along
        trained = unroll(
            AutogradLoss(model), optimizer, moved, some_batches(3), warm_up=0, window=3
        )
        ends.append(float(trained.theta @ cotangent))
    assert float(start @ along) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


@given(st.integers(0, 2), st.integers(1, 4), st.integers(-1, 5))
@settings(max_examples=25)
def test_activations_are_retained_while_there_is_room(
    warm_up: int, window: int, steps_that_fit: int
) -> None:
    """So many steps' and no more; the hypergradient has the same bits."""
    model, optimizer, count = small_model(), Adam(0.1), warm_up + window
    expected = hypergradient(AutogradLoss(model), optimizer, some_batches(count), warm_up, window)
    one = AutogradLoss(model).evaluate(model.theta, some_batches(1)(0), retain=True).retained
    assert one is not None
    room = max(0, int((steps_that_fit + 0.5) * one.nbytes))
    loss = AutogradLoss(model, activation_cache=room)
    found = hypergradient(loss, optimizer, some_batches(count), warm_up, window)
    assert torch.equal(found[0], expected[0])
    assert all(map(torch.equal, found[1], expected[1]))
    trained = unroll(
        loss, optimizer, model.theta, some_batches(count), warm_up=warm_up, window=window
    )
    assert trained.retained_bytes() == min(window, max(0, steps_that_fit)) * one.nbytes
    trained.backward(torch.ones_like(trained.theta))
    assert trained.retained_bytes() == 0


def test_a_step_keeps_a_few_vectors_and_nothing_else() -> None:
    model = small_model()
    for optimizer, count in ((Adam(0.1), 4), (Sgd(0.1), 3)):
        trained = unroll(
            AutogradLoss(model), optimizer, model.theta, some_batches(3), warm_up=1, window=2
        )
        assert trained.bytes_per_step() == count * model.theta.nbytes
        trained.backward(torch.ones_like(trained.theta))
        assert trained.bytes_per_step() == 0


def test_a_network_without_second_derivatives_is_refused() -> None:
    model = small_model(nn.Hardsigmoid())
    trained = unroll(
        AutogradLoss(model), Sgd(0.1), model.theta, some_batches(1), warm_up=0, window=1
    )
    with pytest.raises(InputError, match="the backbone cannot be distilled with") as caught:
        trained.backward(torch.ones_like(trained.theta))
    assert "hardsigmoid_backward" in caught.value.what

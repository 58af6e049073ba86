"""Inner loops by graphs of whole steps against the same loops, operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.data import AUGMENTATIONS
from distill_core.contracts.derivatives import InnerLoss
from distill_core.contracts.network import FlatModel
from distill_core.contracts.streams import Streams, global_seed, seeded
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.data.augment import Augmentation
from distill_core.engine.autograd import AutogradLoss
from distill_core.engine.convnet import ConvNetLoss
from distill_core.engine.graphs.capture import Graphs
from distill_core.engine.graphs.loss import GraphedLoss
from distill_core.engine.graphs.unroll import GraphUnrolled
from distill_core.engine.inner_batches import InnerBatches
from distill_core.engine.kernels.torch_blocks import TorchBlocks
from distill_core.engine.optimizers import Adam, InnerOptimizer, Sgd
from distill_core.engine.unroll import Unrolled, unroll
from distill_core.testing.small import small_data, small_synthetic
from tests.distill_core.engine.small import convnet_loss
from tests.distill_core.engine.traced_graphs import Traced
from tests.second_device import DEVICE, on_cpu, second_device

WARM_UP, WINDOW = 1, 2
STEPS = WARM_UP + WINDOW
ADAM, SGD = Adam(0.01), Sgd(0.1, 0.9, 1e-3)


def synthetic_set() -> SyntheticDataset:
    return small_synthetic(small_data(), learned_labels=True).double()


def drawn(
    synthetic: SyntheticDataset, *, size: int = 4, strategy: str = "none", steps: int = STEPS
) -> InnerBatches:
    return InnerBatches.draw(
        synthetic,
        size=size,
        steps=steps,
        augmentation=Augmentation.named(strategy, AUGMENTATIONS),
        rng=Streams(3),
    )


def passed(synthetic: SyntheticDataset) -> InnerBatches:
    """Batches of several sizes: the last of a pass has what is left."""
    return InnerBatches.passes(
        synthetic, size=4, steps=STEPS, augmentation=Augmentation(()), rng=Streams(3)
    )


def there_and_back(
    loss: InnerLoss,
    synthetic: SyntheticDataset,
    batches: InnerBatches,
    optimizer: InnerOptimizer,
    rates: Tensor | None = None,
) -> tuple[Unrolled, list[Tensor]]:
    """The trained parameters, and all gradients."""
    synthetic.zero_grad()
    learned = None if rates is None else rates.clone().requires_grad_()
    trained = unroll(
        loss, optimizer, loss.model.theta, batches,
        warm_up=WARM_UP, window=len(batches) - WARM_UP, rates=learned,
    )  # fmt: skip
    cotangent = torch.randn(trained.theta.shape, generator=seeded(1)).double()
    found = [trained.theta, trained.backward(cotangent)]
    found += [p.grad.clone() for p in synthetic.parameters() if p.grad is not None]
    if learned is not None:
        assert learned.grad is not None
        found.append(learned.grad)
    return trained, found


def by_blocks(seed: int = 0) -> InnerLoss:
    """The hand-derived loss, as CUDA has it, in PyTorch's own operations."""
    with global_seed(seeded(seed)):
        network = ConvNet(ConvNetOptions(width=2, depth=2), spec=small_data().spec).double()
    structure = network.conv_blocks()
    assert structure is not None
    blocks = TorchBlocks(torch.float64)
    return ConvNetLoss(FlatModel(network), structure, blocks=blocks)


def on_device_loss() -> InnerLoss:
    """As `convnet_loss`, with the network on the second device."""
    with global_seed(seeded(0)):
        network = ConvNet(ConvNetOptions(width=2, depth=1), spec=small_data().spec).double()
    return AutogradLoss(FlatModel(network.to(DEVICE)))


def assert_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-15)
        assert bool(other.abs().max() > 0)


CASES = {
    "all items, adam": (ADAM, {"size": 100}, None),
    "some items, sgd, one learned rate": (SGD, {}, torch.tensor(0.05).double()),
    "flip or rotate, adam, a rate for each step": (
        ADAM, {"strategy": "flip_rotate"}, torch.linspace(0.01, 0.1, STEPS).double(),
    ),
    "one of six, sgd": (SGD, {"strategy": "dsa"}, None),
    "batches of several sizes": (SGD, None, None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_loop_by_graphs_is_the_loop(name: str) -> None:
    optimizer, how, rates = CASES[name]
    synthetic, capture = synthetic_set(), Traced()

    def batches() -> InnerBatches:
        return passed(synthetic) if how is None else drawn(synthetic, **how)  # type: ignore[arg-type]

    _, expected = there_and_back(convnet_loss(), synthetic, batches(), optimizer, rates)
    graphed = GraphedLoss(convnet_loss(), Graphs(capture))
    trained, found = there_and_back(graphed, synthetic, batches(), optimizer, rates)
    assert isinstance(trained, GraphUnrolled)
    assert_same(found, expected)
    assert capture.replays == STEPS + WINDOW


def test_the_hand_derived_loss_in_graphs() -> None:
    synthetic, capture = synthetic_set(), Traced()
    _, expected = there_and_back(by_blocks(), synthetic, drawn(synthetic), ADAM)
    graphed = GraphedLoss(by_blocks(), Graphs(capture))
    _, found = there_and_back(graphed, synthetic, drawn(synthetic), ADAM)
    assert_same(found, expected)
    assert capture.replays == STEPS + WINDOW


def test_graphs_serve_later_loops_and_grow_for_longer_ones() -> None:
    synthetic, capture = synthetic_set(), Traced()
    graphs = Graphs(capture)
    for seed, steps, captures in ((0, STEPS, 3), (1, STEPS, 3), (2, 9, 6), (0, STEPS, 6)):
        batches = [drawn(synthetic, steps=steps) for _ in range(2)]
        _, expected = there_and_back(convnet_loss(seed), synthetic, batches[0], ADAM)
        graphed = GraphedLoss(convnet_loss(seed), graphs)
        _, found = there_and_back(graphed, synthetic, batches[1], ADAM)
        assert_same(found, expected)
        assert capture.captures == captures


def test_gradients_are_added_to_those_that_are_there() -> None:
    synthetic = synthetic_set()
    graphed = GraphedLoss(convnet_loss(), Graphs(Traced()))
    _, once = there_and_back(graphed, synthetic, drawn(synthetic), SGD)
    trained = unroll(
        graphed, SGD, graphed.model.theta, drawn(synthetic), warm_up=WARM_UP, window=WINDOW
    )
    trained.backward(torch.randn(trained.theta.shape, generator=seeded(1)).double())
    parameters = list(synthetic.parameters())
    for parameter, grad in zip(parameters, once[2:], strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, 2 * grad, rtol=1e-12)


def test_a_training_that_was_overwritten_does_not_go_back() -> None:
    synthetic = synthetic_set()
    graphed = GraphedLoss(convnet_loss(), Graphs(Traced()))
    loops = [
        unroll(graphed, SGD, graphed.model.theta, drawn(synthetic), warm_up=0, window=STEPS)
        for _ in range(2)
    ]
    cotangent = torch.ones_like(loops[0].theta)
    with pytest.raises(RuntimeError, match=r"overwritten.*engine\.graphs=none"):
        loops[0].backward(cotangent)
    loops[1].backward(cotangent)
    with pytest.raises(RuntimeError, match="overwritten"):
        loops[1].backward(cotangent)


def test_boxes_that_are_no_items_go_step_by_step() -> None:
    synthetic = synthetic_set()
    items = drawn(synthetic)
    boxes = [replace(b, item=torch.full_like(b.item, -1)) for b in items._boxes]
    batches = [InnerBatches(synthetic, boxes, items._draws) for _ in range(2)]
    _, expected = there_and_back(convnet_loss(), synthetic, batches[0], SGD)
    graphed = GraphedLoss(convnet_loss(), Graphs(capture := Traced()))
    trained, found = there_and_back(graphed, synthetic, batches[1], SGD)
    assert not isinstance(trained, GraphUnrolled)
    assert capture.captures == 2
    assert_same(found, expected)


def test_what_a_step_leaves_behind_is_counted() -> None:
    synthetic = synthetic_set()
    graphed = GraphedLoss(convnet_loss(), Graphs(Traced()))
    theta = graphed.model.theta
    trained = unroll(graphed, ADAM, theta, drawn(synthetic), warm_up=WARM_UP, window=WINDOW)
    assert trained.bytes_per_step() == 4 * theta.nbytes + 8  # and the number of the step
    assert trained.retained_bytes() == 0
    trained = unroll(graphed, ADAM, theta, drawn(synthetic), warm_up=STEPS, window=0)
    assert trained.bytes_per_step() == 0


def launched(
    function: Callable[..., Sequence[Tensor]], memory: Sequence[Any]
) -> Callable[[], Sequence[Tensor]]:
    """Instead of a capture: the function again at each replay."""
    function(*memory)
    return lambda: function(*memory)


@pytest.mark.parametrize("steps", [STEPS, 3 * STEPS])
def test_a_loop_by_graphs_waits_for_nothing_and_sends_its_draws_once(steps: int) -> None:
    with second_device() as log:
        synthetic = synthetic_set().to(DEVICE)
        graphed = GraphedLoss(on_device_loss(), Graphs(launched))
        batches = drawn(synthetic, strategy="flip_rotate", steps=steps)
        batches.drawn_steps()  # expands the items, which is the representation's business
        cotangent = torch.randn(graphed.model.theta.shape, generator=seeded(1)).double()
        cotangent = cotangent.to(DEVICE)
        log.clear()
        trained = unroll(graphed, ADAM, graphed.model.theta, batches, warm_up=1, window=steps - 1)
        trained.backward(cotangent)
        counts = log.counts()
        found = on_cpu([trained.theta, *(p.grad for p in synthetic.parameters())])
    assert (counts["waits"], counts["mismatches"], counts["draws"]) == (0, 0, 0)
    assert counts["copies"] == 2  # which items, and the values of their augmentation
    plain = synthetic_set()
    here = unroll(
        convnet_loss(), ADAM, convnet_loss().model.theta,
        drawn(plain, strategy="flip_rotate", steps=steps), warm_up=1, window=steps - 1,
    )  # fmt: skip
    here.backward(torch.randn(here.theta.shape, generator=seeded(1)).double())
    expected = [here.theta, *(p.grad for p in plain.parameters() if p.grad is not None)]
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)

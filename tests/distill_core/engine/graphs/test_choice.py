"""Whether steps of a network can be captured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.network import FlatModel
from distill_core.data.augment import Augmentation, Draw
from distill_core.engine.autograd import AutogradLoss
from distill_core.engine.graphs import choice as graph_choice
from distill_core.engine.graphs.capture import Capture, Graphs
from distill_core.engine.graphs.choice import fails_in_graphs, no_graphs
from distill_core.engine.graphs.loss import GraphedLoss
from distill_core.testing.small import small_data
from tests.distill_core.engine.small import Small, convnet_loss
from tests.distill_core.engine.traced_graphs import Traced

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _few_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing each takes a second."""
    monkeypatch.setattr(graph_choice, "TRIED", ((), ("rotate",)))


def convnet(norm: str = "instance") -> ConvNet:
    return ConvNet(ConvNetOptions(width=2, depth=1, norm=norm), spec=small_data().spec)  # type: ignore[arg-type]


def test_what_can_be_seen_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    assert no_graphs(convnet(), CUDA) == ""
    assert no_graphs(convnet(), torch.device("cpu")) == "there are none on cpu"
    assert "buffers" in no_graphs(convnet("batch"), CUDA)
    frozen = convnet()
    frozen.head.bias.requires_grad_(False)
    assert "frozen" in no_graphs(frozen, CUDA)
    monkeypatch.setenv("DISTILL_GRAPHS", "off")
    assert no_graphs(convnet(), CUDA) == "DISTILL_GRAPHS is off"


def fails(network: Small, capture: Capture | None = None) -> str:
    loss = AutogradLoss(FlatModel(network))
    return fails_in_graphs(GraphedLoss(loss, Graphs(capture or Traced())), (1, 2, 2))


class Plain(Small):
    """Without the tensor that `Small` makes from host data in each pass."""

    def embed(self, images: Tensor) -> Tensor:
        features: Tensor = self.activation(self.first(images.flatten(1)))
        return features


def test_a_network_that_can_be_captured() -> None:
    loss = GraphedLoss(convnet_loss(), Graphs(Traced()))
    assert fails_in_graphs(loss, small_data().spec.image_shape) == ""
    assert fails(Plain()) == ""


class Reads(nn.Module):
    """Reads a number on the host."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.detach().abs().max())


def test_networks_that_cannot() -> None:
    assert fails(Small()).startswith("capturing failed: tensors of the capture")
    assert fails(Plain(Reads())).startswith("capturing failed: ")
    assert fails(Plain(nn.Dropout(0.5))) == "the network draws random numbers"


def wrong(function: Callable[..., Sequence[Tensor]], memory: Sequence[Any]) -> Callable[[], Any]:
    """A capture that replays something else."""
    outputs = [output + 1 for output in function(*memory)]
    return lambda: outputs


def full(function: Callable[..., Sequence[Tensor]], memory: Sequence[Any]) -> Callable[[], Any]:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_replays_that_differ_are_noticed_and_a_full_card_is_no_reason() -> None:
    assert fails(Plain(), wrong) == "what they replay differs from what they captured"
    with pytest.raises(torch.OutOfMemoryError):
        fails(Plain(), full)


def test_a_network_without_a_second_derivative_goes_without_and_is_trained_with() -> None:
    loss = GraphedLoss(AutogradLoss(FlatModel(Plain(Once()))), Graphs(Traced()))
    assert "the backbone cannot be distilled with" in fails_in_graphs(loss, (1, 2, 2))
    assert fails_in_graphs(loss, (1, 2, 2), there_and_back=False) == ""


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        return _NoMore.apply(cotangents[0])


class _NoMore(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        raise RuntimeError("the derivative for '_once_backward' is not implemented.")


class Once(nn.Module):
    """An operation with one derivative."""

    def forward(self, x: Tensor) -> Tensor:
        return _Once.apply(x)


def test_steps_that_cannot_be_captured_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def reads(images: Tensor, draw: Draw) -> Tensor:
        return images * float(draw.values.sum())

    monkeypatch.setattr(Augmentation, "apply", staticmethod(reads))
    loss = GraphedLoss(convnet_loss(), Graphs(Traced()))
    found = fails_in_graphs(loss, small_data().spec.image_shape)
    assert found.startswith("capturing failed: ")

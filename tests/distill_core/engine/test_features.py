"""Features by the kernels against those of the network itself, and their derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.derivatives import Features
from distill_core.contracts.streams import global_seed, seeded
from distill_core.engine.features import convnet_features
from distill_core.plugin import PeakBytes

SHAPES = [((3, 13, 21), 17, 2), ((1, 28, 28), 8, 3), ((2, 8, 8), 9, 1)]
GROWING = ((3, 8, 8), 4, 2)  # each block has twice the channels of the one before


def made(
    shape: tuple[int, int, int], width: int, depth: int, growth: int = 1
) -> tuple[ConvNet, Features]:
    spec = DataSpec("made", ("a", "b", "c"), shape, ())
    options = ConvNetOptions(width=width, depth=depth, growth=growth)
    with global_seed(seeded(0)):
        network = ConvNet(options, spec=spec).double()
    structure = network.conv_blocks()
    assert structure is not None
    return network, convnet_features(network, structure)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded(1, *shape), dtype=torch.float64)


@pytest.mark.parametrize(
    ("shape", "width", "depth", "growth"), [*((*each, 1) for each in SHAPES), (*GROWING, 2)]
)
@pytest.mark.parametrize("learned", ["images", "parameters", "both"])
def test_features_and_their_gradients_are_those_of_the_network(
    shape: tuple[int, int, int], width: int, depth: int, growth: int, learned: str
) -> None:
    network, features = made(shape, width, depth, growth)
    network.requires_grad_(learned != "images")
    images = drawn(4, *shape).requires_grad_(learned != "parameters")
    expected = network.embed(images)
    found = features(images)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)
    parameters = [p for n, p in network.named_parameters() if not n.startswith("head.")]
    leaves = [leaf for leaf in (images, *parameters) if leaf.requires_grad]
    cotangent = drawn(*expected.shape)
    wanted = torch.autograd.grad(expected, leaves, cotangent)
    for _ in range(2):  # a second sweep through the same graph finds the same
        given = torch.autograd.grad(found, leaves, cotangent, retain_graph=True)
        for one, other in zip(given, wanted, strict=True):
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-11)


def test_parameters_at_the_time_of_a_call_count() -> None:
    network, features = made((3, 8, 8), 4, 2)
    images = drawn(2, 3, 8, 8)
    before = features(images)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
        assert not features(images).requires_grad
    assert torch.allclose(features(images), network.embed(images))
    assert not torch.allclose(features(images), before)


def test_there_is_no_second_derivative() -> None:
    _, features = made((3, 8, 8), 4, 2)
    images = drawn(2, 3, 8, 8).requires_grad_()
    (first,) = torch.autograd.grad(features(images).square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("shape", "dtype", "what"),
    [
        ((3, 8, 8), torch.float32, "images of 3 channels in float32 on cpu"),
        ((1, 8, 8), torch.float64, "images of 1 channels in float64 on cpu"),
        ((4, 8, 8), torch.float64, "images of 4 channels in float64 on cpu"),
    ],
)
def test_images_that_are_read_as_something_else_are_refused(
    shape: tuple[int, int, int], dtype: torch.dtype, what: str
) -> None:
    _, features = made((3, 8, 8), 4, 2)
    with pytest.raises(ValueError, match=f"were given {what}, where 3 channels in float64 on cpu"):
        features(torch.zeros(2, *shape, dtype=dtype))


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_a_number_stays_so(place: int) -> None:
    network, features = made((3, 8, 8), 4, 2)
    weights = [p for n, p in network.named_parameters() if p.ndim == 4]
    with torch.no_grad():
        weights[place][0] = torch.nan
        assert bool(network.embed(drawn(2, 3, 8, 8)).isnan().any())
        assert bool(features(drawn(2, 3, 8, 8)).isnan().any())


def test_checkpointing_drops_what_the_way_back_needs() -> None:
    """And computes it again: nothing of the size of activations outlives the forward pass."""
    _, features = made((3, 8, 8), 16, 3)
    images = drawn(8, 3, 8, 8).requires_grad_()

    def alive(again: bool) -> tuple[int, Tensor]:
        with PeakBytes() as memory:
            out = checkpoint(features, images, use_reentrant=False) if again else features(images)
        kept = memory.alive
        (gradient,) = torch.autograd.grad(out.sum(), images)
        return kept, gradient

    (whole, expected), (dropped, found) = alive(False), alive(True)
    assert dropped < whole / 4
    assert torch.equal(found, expected)

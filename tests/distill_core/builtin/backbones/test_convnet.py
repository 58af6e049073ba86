"""The ConvNet of the papers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions, default_depth
from distill_core.contracts.data import DataSpec
from distill_core.contracts.streams import global_seed, seeded
from distill_core.testing import check_backbone
from registry import InputError, OptionError


def convnet(shape: tuple[int, int, int], **options: Any) -> ConvNet:
    spec = DataSpec("tiny", tuple("abcdefghij"), shape, ())
    return ConvNet(ConvNetOptions(**options), spec=spec)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "batch", "pooling": "max", "activation": "leakyrelu"},
        {"norm": "layer", "activation": "silu"},
        {"norm": "group", "activation": "softplus"},
        {"norm": "none", "pooling": "none", "depth": 2},
        {"norm": "none", "activation": "softplus", "sharpness": 60.0, "growth": 2, "init": "lecun"},
    ],
)
def test_it_keeps_the_contract(options: dict[str, Any]) -> None:
    check_backbone(partial(ConvNet, ConvNetOptions(width=8, **options)), name="convnet")


def test_the_papers_network() -> None:
    """320,010 parameters at 32x32 with 3 blocks of 128 (DC, DSA, MTT)."""
    backbone = convnet((3, 32, 32))
    assert sum(p.numel() for p in backbone.parameters()) == 320_010
    kinds = [type(layer) for layer in backbone.blocks]
    assert kinds == 3 * [nn.Conv2d, nn.GroupNorm, nn.ReLU, nn.AvgPool2d]
    assert not any(layer.inplace for layer in backbone.blocks if isinstance(layer, nn.ReLU))
    assert len([k for k in convnet((3, 64, 64)).blocks if isinstance(k, nn.Conv2d)]) == 4


def test_the_forward_pass_written_out() -> None:
    backbone = convnet((3, 8, 8), width=4).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=seeded(0))
    values = images
    for conv, norm in ((backbone.blocks[0], backbone.blocks[1]), tuple(backbone.blocks[4:6])):
        values = functional.conv2d(values, conv.weight, conv.bias, padding=1)
        values = functional.instance_norm(values, weight=norm.weight, bias=norm.bias)
        values = functional.avg_pool2d(values.relu(), 2)
    expected = values.flatten(1) @ backbone.head.weight.T + backbone.head.bias
    assert torch.allclose(backbone(images), expected, rtol=1e-10)


def test_grey_images_of_28_pixels_become_32() -> None:
    assert convnet((1, 28, 28), width=4).head.in_features == 4 * 4 * 4
    assert convnet((3, 28, 28), width=4).head.in_features == 4 * 3 * 3


@given(
    channels=st.integers(1, 4),
    height=st.integers(8, 64),
    width=st.integers(8, 64),
    pooling=st.sampled_from(["avg", "max"]),
)
@settings(deadline=None, max_examples=20)
def test_it_takes_any_size(channels: int, height: int, width: int, pooling: str) -> None:
    backbone = convnet((channels, height, width), width=2, pooling=pooling)
    assert backbone(torch.ones(2, channels, height, width)).shape == (2, 10)


@pytest.mark.parametrize("side", range(1, 70))
def test_the_default_depth_fits(side: int) -> None:
    assert 1 <= default_depth(side, 100) == default_depth(100, side) <= max(side // 2, 1)


def test_too_many_blocks_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        convnet((3, 8, 20), depth=4)
    assert str(caught.value) == (
        "4 blocks of pooling leave nothing of images of 8x20 pixels.\n"
        "Expected at most 3 blocks (the default here is 2).\n"
        "Next: lower -o backbone.depth, or pass -o backbone.pooling=none."
    )
    assert convnet((3, 8, 20), depth=3, width=4).head.in_features == 4 * 1 * 2


def test_a_width_without_groups_is_refused() -> None:
    with pytest.raises(OptionError, match=r"backbone\.width = 6 cannot be split"):
        convnet((3, 8, 8), width=6, norm="group")


def test_width_follows_the_size_of_the_images() -> None:
    assert convnet((1, 8, 8)).blocks[0].out_channels == 32
    assert convnet((3, 32, 32)).blocks[0].out_channels == 128


def test_channels_grow_from_block_to_block() -> None:
    """As FRePo's and RCIG's: 128, 256 and 512, and a head on 4x4 maps of the last."""
    backbone = convnet((3, 32, 32), growth=2)
    assert [m.out_channels for m in backbone.blocks if isinstance(m, nn.Conv2d)] == [128, 256, 512]
    assert backbone.head.in_features == 512 * 4 * 4
    assert backbone.conv_blocks() is not None


def test_a_sharp_softplus_is_nearly_relu() -> None:
    """Largest at 0, where it is log(2) / sharpness."""
    (act,) = [m for m in convnet((3, 4, 4), activation="softplus", sharpness=60).blocks
              if isinstance(m, nn.Softplus)]  # fmt: skip
    values = torch.linspace(-2, 2, 401, dtype=torch.float64)
    assert torch.allclose(act(values), torch.log1p((60 * values).exp()) / 60, atol=1e-10)
    assert float((act(values) - values.relu()).max()) == pytest.approx(math.log(2) / 60)


def test_weights_of_lecun_have_the_variance_of_their_fan_in() -> None:
    with global_seed(seeded(0)):
        backbone = convnet((3, 32, 32), init="lecun")
    for layer in (*backbone.blocks, backbone.head):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            assert float(layer.weight.detach().var()) * fan_in == pytest.approx(1, rel=0.05)
            assert float(layer.weight.detach().abs().max()) < 2 / 0.8796 * fan_in**-0.5
            assert not layer.bias.any()

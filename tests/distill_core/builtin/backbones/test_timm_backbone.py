"""Networks of timm."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch
from torch import nn

from distill_core.builtin.backbones.timm_backbone import (
    TimmBackbone,
    TimmOptions,
    _switch_off_chance,
)
from distill_core.builtin.backbones.timm_names import names
from distill_core.contracts.data import DataSpec
from distill_core.contracts.network import FlatModel
from distill_core.contracts.streams import seeded
from distill_core.contracts.synthetic import Batch
from distill_core.engine.autograd import AutogradLoss
from distill_core.engine.optimizers import Adam
from distill_core.engine.unroll import unroll
from distill_core.testing import check_backbone
from registry import InputError, UnknownNameError
from tests.distill_core.engine.small import Listed, graph_unroll


def made(name: str, shape: tuple[int, int, int] = (3, 32, 32)) -> TimmBackbone:
    spec = DataSpec("tiny", ("a", "b", "c", "d"), shape, ())
    return TimmBackbone(TimmOptions(name=name), spec=spec)


def test_its_names_are_read_without_importing_it() -> None:
    assert [*names()] == sorted(timm.list_models())


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_it_keeps_the_contract(name: str) -> None:
    check_backbone(partial(TimmBackbone, TimmOptions(name=name)), name="timm")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("test_resnet", (1, 8, 8)),
        ("test_vit", (3, 32, 48)),
        ("test_convnext", (1, 32, 32)),
        ("test_efficientnet", (3, 28, 28)),
    ],
)
def test_its_hypergradient_is_that_of_a_graph_of_the_window(
    name: str, shape: tuple[int, int, int]
) -> None:
    model = FlatModel(made(name, shape).double())
    optimizer = Adam(1e-3)
    cotangent = torch.linspace(-1, 1, len(model.theta), dtype=torch.float64)

    def batches() -> Listed:
        images = torch.randn(4, *shape, generator=seeded(0)).double().requires_grad_()
        return Listed([Batch(images, torch.eye(4).double().requires_grad_())] * 3)

    reference, ours = batches(), batches()
    graph_unroll(model, optimizer, reference, warm_up=1, window=2).backward(cotangent)
    unroll(AutogradLoss(model), optimizer, model.theta, ours, warm_up=1, window=2).backward(
        cotangent
    )
    for found, expected in zip(ours.batches[0], reference.batches[0], strict=True):
        assert found.grad is not None
        assert expected.grad is not None
        scale = float(expected.grad.abs().max())
        assert scale > 0
        assert float((found.grad - expected.grad).abs().max()) <= 1e-8 * scale


def test_chance_is_switched_off() -> None:
    from timm.layers import DropPath

    layers = nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.5), DropPath(0.5))
    images = torch.randn(2, 3, 8, 8, generator=seeded(0))
    assert not torch.equal(layers(images), images)
    _switch_off_chance(layers)
    before = torch.get_rng_state()
    assert torch.equal(layers(images), images)
    assert torch.equal(before, torch.get_rng_state())


def test_the_head_is_the_models_own_and_listed_once() -> None:
    backbone = made("test_resnet")
    assert backbone.head is backbone.model.get_classifier()
    assert backbone.head.out_features == 4
    assert [name for name, _ in backbone.named_parameters() if "fc" in name or "head" in name] == [
        "model.fc.weight",
        "model.fc.bias",
    ]


def test_the_body_is_all_but_the_head_whatever_it_is_called() -> None:
    model = FlatModel(made("test_resnet"))
    ones = model.views(model.body())
    assert {name for name, part in ones.items() if not part.any()} == {
        "model.fc.weight",
        "model.fc.bias",
    }


def test_an_image_size_that_the_model_cannot_take() -> None:
    with pytest.raises(InputError) as caught:
        made("test_vit", (1, 8, 8))
    assert caught.value.what == (
        "timm model 'test_vit' cannot be used: it does not take images of 1x8x8: "
        "Input height (8) should be divisible by patch size (16)."
    )
    with pytest.raises(InputError, match="'inception_v3' cannot be used"):
        made("inception_v3")


def test_a_model_that_does_not_end_in_a_linear_layer() -> None:
    with pytest.raises(InputError, match="its last layer is not linear"):
        made("deit_tiny_distilled_patch16_224")


def test_an_unknown_model() -> None:
    with pytest.raises(UnknownNameError) as caught:
        made("resnet10")
    assert caught.value.nearest == "resnet10t"
    assert len(caught.value.known) == 8
    assert "distill list backbones --filter" in caught.value.next

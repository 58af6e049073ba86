"""The checks of backbones: sound ones pass, every fault is found and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distill_core.contracts.data import DataSpec
from distill_core.contracts.network import Backbone
from distill_core.testing import check_backbone
from distill_core.testing.small import TinyBackbone
from registry import InputError
from tests.distill_core.testing.faults import fault


def test_a_sound_backbone_passes() -> None:
    check_backbone(TinyBackbone, name="x")


class Constant(TinyBackbone):
    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__(spec=spec)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.1)


class Spatial(TinyBackbone):
    def embed(self, images: Tensor) -> Tensor:
        return self.convolution(images)


class Headless(TinyBackbone):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.embed(images)) * 2


class Deep(TinyBackbone):
    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__(spec=spec)
        self.head = nn.Sequential(self.head)  # type: ignore[assignment]


class OnceOnly(torch.autograd.Function):
    """A function without a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


class Once(TinyBackbone):
    def embed(self, images: Tensor) -> Tensor:
        return OnceOnly.apply(super().embed(images))


class Refusing(OnceOnly):
    """A function that refuses a second derivative."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise RuntimeError("not a second time\nnever")
        return gradient


class Stubborn(TinyBackbone):
    def embed(self, images: Tensor) -> Tensor:
        return Refusing.apply(super().embed(images))


class Cropped(TinyBackbone):
    """Its features leave the graph."""

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images).detach()


class Numpy(TinyBackbone):
    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__(spec=spec)
        self.head.bias.data.add_(float(np.random.rand()))  # noqa: NPY002


class Bare(TinyBackbone):
    def __init__(self, *, spec: DataSpec) -> None:
        super().__init__(spec=spec)
        self.scale = torch.randn(())

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) * self.scale


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Constant, "starts from the same weights whatever the generator"),
        (Spatial, "embeds to (4, 6, 8, 8), not (4, 96)"),
        (Headless, "gives logits that are not its head on its features"),
        (Deep, "has a head that is not an nn.Linear"),
        (Once, "by central differences"),
        (Stubborn, "cannot be differentiated twice: not a second time"),
        (Cropped, "sends no second derivative to the images"),
        (Numpy, "changes the global random state during its construction"),
        (Bare, "gives other logits after its state was saved and loaded"),
        (lambda *, spec: nn.Linear(3, 2), "is not a Backbone"),
    ],
)
def test_faults_of_backbones(broken: Any, sentence: str) -> None:
    text = fault(check_backbone, broken)
    assert text.startswith("backbone 'x' ")
    assert sentence in text


def test_a_backbone_may_refuse_some_shapes_not_all() -> None:
    def colour_only(*, spec: DataSpec) -> Backbone:
        if spec.image_shape[0] == 1:
            raise InputError("grey.")
        return TinyBackbone(spec=spec)

    def nothing(*, spec: DataSpec) -> Backbone:
        raise InputError("no.")

    check_backbone(colour_only, name="x")
    assert "refuses 3x8x8 (no.)" in fault(check_backbone, nothing)

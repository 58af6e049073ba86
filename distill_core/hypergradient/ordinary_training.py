"""Ordinary training and testing of a network, by the kernels where it has them.

Evaluation trains many networks, on the same backbone as distillation, and tests each on thousands
of images; the kernels save it most of its time. They agree with PyTorch but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from distill_core.contracts import Backbone
from distill_core.functional import FlatModel
from distill_core.hypergradient.convnet_loss import ConvNetLoss
from distill_core.kernels.native import Unavailable
from distill_core.losses import soft_cross_entropy
from distill_core.synthetic import Batch

TrainingGradient = Callable[[Tensor, Tensor], None]
Logits = Callable[[Tensor], Tensor]


def training_gradient(backbone: nn.Module, device: torch.device) -> TrainingGradient:
    """Return a function of images (n, C, h, w) and soft labels (n, K) that fills `.grad`.

    Args:
        backbone: in training mode; gradients that it holds are replaced.
        device: where it is.
    """
    kernels = _kernels(backbone, device)
    if kernels is None:
        return lambda images, labels: _by_autograd(backbone, images, labels)
    parameters = list(backbone.parameters())
    sizes = [p.numel() for p in parameters]

    def fill(images: Tensor, labels: Tensor) -> None:
        theta = torch.cat([p.detach().reshape(-1) for p in parameters])
        gradient = kernels.evaluate(theta, Batch(images, labels)).gradient
        for parameter, part in zip(parameters, torch.split(gradient, sizes), strict=True):
            parameter.grad = part.view_as(parameter)

    return fill


def network_logits(backbone: nn.Module, device: torch.device) -> Logits:
    """Return a function of images (n, C, h, w) that gives logits (n, K), for use without a graph.

    Args:
        backbone: in evaluation mode; its parameters as they are now count.
        device: where it is.
    """
    kernels = _kernels(backbone, device)
    if kernels is None:
        return backbone
    theta = kernels.model.theta
    return lambda images: kernels.logits(theta, images)


def _kernels(backbone: nn.Module, device: torch.device) -> ConvNetLoss | None:
    structure = backbone.conv_blocks() if isinstance(backbone, Backbone) else None
    frozen = not all(p.requires_grad for p in backbone.parameters())
    if structure is None or device.type != "cpu" or frozen:
        return None
    try:
        return ConvNetLoss(FlatModel(backbone), structure)  # type: ignore[arg-type]
    except Unavailable:
        return None


def _by_autograd(backbone: nn.Module, images: Tensor, labels: Tensor) -> None:
    backbone.zero_grad(set_to_none=True)
    loss = soft_cross_entropy(backbone(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]

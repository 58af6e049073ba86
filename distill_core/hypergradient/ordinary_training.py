"""Logits for ordinary training and testing, by the kernels where a network has them.

Evaluation trains many networks, on the same backbone as distillation, and tests each on thousands
of images; the kernels save it most of its time. They agree with PyTorch but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from distill_core.contracts import Backbone
from distill_core.functional import FlatModel
from distill_core.hypergradient.autograd_loss import AutogradLoss
from distill_core.hypergradient.convnet_loss import ConvNetLoss
from distill_core.hypergradient.features import convnet_features, no_kernels
from distill_core.hypergradient.inner_loss import InnerLoss

Logits = Callable[[Tensor], Tensor]


def network_logits(backbone: nn.Module, device: torch.device) -> Logits:
    """Return a function of images (n, C, h, w) that gives logits (n, K).

    It can be differentiated once; parameters and mode at the time of a call count.

    Args:
        backbone: any network.
        device: where it is.
    """
    if no_kernels(backbone, device):
        return backbone
    assert isinstance(backbone, Backbone)
    structure = backbone.conv_blocks()
    assert structure is not None
    head, features = backbone.head, convnet_features(backbone, structure)
    return lambda images: head(features(images))


def training_loss(backbone: Backbone) -> InnerLoss:
    """Return the loss of such training as a function of flat parameters, which are copied."""
    model, structure = FlatModel(backbone), backbone.conv_blocks()
    if structure is None or no_kernels(backbone, model.theta.device):
        return AutogradLoss(model)
    return ConvNetLoss(model, structure)


def how_trained(backbone: nn.Module, device: torch.device) -> str:
    """Return how such a network is trained and tested, for the log."""
    obstacle = no_kernels(backbone, device)
    return f"autograd ({obstacle})" if obstacle else "ConvNet kernels, float32"

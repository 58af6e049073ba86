"""Logits for ordinary training and testing, by the kernels where a network has them.

Evaluation trains many networks of the same backbone as distillation, and tests each on thousands
of images. The kernels save most of that time; their results differ from PyTorch's by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from distill_core.contracts.derivatives import InnerLoss
from distill_core.contracts.network import Backbone, FlatModel
from distill_core.engine.autograd import AutogradLoss
from distill_core.engine.convnet import ConvNetLoss
from distill_core.engine.features import convnet_features, no_kernels

Logits = Callable[[Tensor], Tensor]


def network_logits(backbone: nn.Module, device: torch.device) -> Logits:
    """Return a function from images (n, C, h, w) to logits (n, K).

    It can be differentiated once. Each call uses the parameters and mode that the network has then.

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
    """Return the loss of ordinary training as a function of flat parameters, which are copied."""
    model, structure = FlatModel(backbone), backbone.conv_blocks()
    if structure is None or no_kernels(backbone, model.theta.device):
        return AutogradLoss(model)
    return ConvNetLoss(model, structure)


def how_trained(backbone: nn.Module, device: torch.device) -> str:
    """Say how a network is trained and tested, for the log."""
    obstacle = no_kernels(backbone, device)
    return f"autograd ({obstacle})" if obstacle else "ConvNet kernels, float32"

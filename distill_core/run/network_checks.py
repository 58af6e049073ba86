"""A check of networks: a fresh one is tried on two images before any work."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill_core.contracts.data import DataSpec
from distill_core.contracts.network import Backbone
from distill_core.run.checks import refuse
from registry import Builder


def check_network(builder: Builder, network: Backbone, spec: DataSpec) -> None:
    """Check the weights, the features and the logits of a fresh network.

    Args:
        builder: made it; its name is in messages.
        network: stays in evaluation mode.
        spec: of the images.

    Raises:
        ContractError: a type or a shape is wrong, weights are not finite, or no gradient reaches
            the images.
    """
    who, head = str(builder), getattr(network, "head", None)
    if not isinstance(head, nn.Linear):
        refuse(who, f"has a head that is a {type(head).__name__}", "an nn.Linear")
    for name, parameter in network.named_parameters():
        if parameter.dtype != torch.float32:
            refuse(who, f"has parameter '{name}' of {parameter.dtype}", "torch.float32")
    odd = {name: (~torch.isfinite(each)).sum() for name, each in network.named_parameters()}
    for name, count in zip(odd, torch.stack([*odd.values()]).tolist(), strict=True):  # one read
        if count:
            what = f"has parameter '{name}', of which {count} numbers are not finite"
            refuse(who, what, "finite numbers")
    network.eval()  # which draws nothing, and normalises by no batch
    images = torch.zeros(2, *spec.image_shape, device=head.weight.device)
    with torch.no_grad():
        features = builder.call(network.embed, images)
        _check_shape(who, "features", features, (2, head.in_features))
        logits = builder.call(network, images)
        _check_shape(who, "logits", logits, (2, spec.num_classes))
    with torch.enable_grad():  # whatever the caller has switched off
        images.requires_grad_()
        features = builder.call(network.embed, images.clone())  # may be changed in place
        reached = features.requires_grad and _reaches(features, images)
    if not reached:
        refuse(
            who,
            "gives features without a gradient to their images",
            "features computed from the images by PyTorch, not detached",
        )


def _reaches(features: Tensor, images: Tensor) -> bool:
    """Return whether autograd finds a way back."""
    (gradient,) = torch.autograd.grad(features.sum(), images, allow_unused=True)
    return gradient is not None


def _check_shape(who: str, what: str, found: object, shape: tuple[int, int]) -> None:
    shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shown != shape:
        refuse(who, f"gives {what} {shown} of 2 images", f"{what} {shape}")

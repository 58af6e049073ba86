"""Whether the steps of a network can be captured in CUDA graphs: found out once, by trying."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from distill_core.hypergradient.graphed_loss import GraphedLoss
from distill_core.hypergradient.inner_loss import InnerLoss
from distill_core.out_of_memory import is_out_of_memory
from distill_core.synthetic import Batch

TOLERANCE = 1e-2  # of a norm: two runs differ by rounding, a graph that went wrong by everything


def no_graphs(backbone: nn.Module, device: torch.device) -> str:
    """Say why steps of a network on a device cannot be captured, as far as can be seen, or nothing.

    A graph serves all networks of a structure, since parameters are arguments. Buffers and frozen
    parameters are not, and would be those of the first network for ever.
    """
    if device.type != "cuda":
        return f"there are none on {device.type}"
    if os.environ.get("DISTILL_GRAPHS") == "off":
        return "DISTILL_GRAPHS is off"
    if any(True for _ in backbone.buffers()):
        return "the network has buffers, as batch normalisation does"
    if not all(parameter.requires_grad for parameter in backbone.parameters()):
        return "the network has frozen parameters"
    return ""


def fails_in_graphs(loss: GraphedLoss, image_shape: tuple[int, int, int]) -> str:
    """Capture a gradient and a product, compare them, and say what is wrong, or nothing.

    Args:
        loss: of a network for which `no_graphs` says nothing.
        image_shape: C, h, w of its images.
    """
    theta = loss.model.theta
    images = torch.linspace(-2, 2, 2 * image_shape[0] * image_shape[1] * image_shape[2])
    batch = Batch(
        images.view(2, *image_shape).to(theta),
        theta.new_full((2, loss.model.num_classes), 1 / loss.model.num_classes),
    )
    before = _random_state(theta.device)
    try:
        pairs = zip(_both(loss, theta, batch), _both(loss.plain, theta, batch), strict=True)
        wrong = [not _close(one, other) for one, other in pairs]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return f"capturing failed: {str(error).splitlines()[0].rstrip('.')}"
    if not torch.equal(before, _random_state(theta.device)):
        return "the network draws random numbers"
    return "what they replay differs from what they captured" if any(wrong) else ""


def _both(loss: InnerLoss, theta: Tensor, batch: Batch) -> tuple[Tensor, ...]:
    return (*loss.evaluate(theta, batch)[:3], *loss.product(theta, batch, theta))


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() <= TOLERANCE * other.norm() + 1e-6)


def _random_state(device: torch.device) -> Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()

"""What the engine needs of a network: the inner loss's gradient, and its product with a vector.

The inner loss is cross-entropy with soft labels, the mean over a batch. `AutogradLoss` serves any
backbone; `ConvNetLoss` (convnet_loss.py) the paper's, faster.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from distill_core.functional import FlatModel
from distill_core.losses import soft_cross_entropy
from distill_core.synthetic import Batch
from registry import InputError


class Evaluation(NamedTuple):
    """The loss of a batch (a scalar), its gradient (P,), and the logits (n, K); no graph."""

    loss: Tensor
    gradient: Tensor
    logits: Tensor


class Product(NamedTuple):
    """Derivatives of <gradient, vector>: in theta (the Hessian times the vector, (P,)), in the
    images (n, C, h, w) and in the labels (n, K); no graph."""

    theta: Tensor
    images: Tensor
    labels: Tensor


class InnerLoss(Protocol):
    """Derivatives of the inner loss at flat parameters; a pure function of its arguments.

    Attributes:
        model: the network, with its initial parameters.
    """

    model: FlatModel

    def evaluate(self, theta: Tensor, batch: Batch) -> Evaluation:
        """Return loss, gradient and logits at theta (P,)."""
        ...

    def product(self, theta: Tensor, batch: Batch, vector: Tensor) -> Product:
        """Return the derivatives of <gradient, vector> at theta (P,), for a constant vector (P,).

        Raises:
            InputError: the network has an operation without a second derivative.
        """
        ...


class AutogradLoss:
    """Any backbone, by reverse mode over reverse mode.

    Args:
        model: the network.
        microbatch: images at a time, None for all; exact unless the network mixes images (batch
            normalisation), whose batch must not be split.
    """

    def __init__(self, model: FlatModel, microbatch: int | None = None) -> None:
        self.model = model
        self.microbatch = microbatch

    @torch.enable_grad()
    def evaluate(self, theta: Tensor, batch: Batch) -> Evaluation:
        """Return loss, gradient and logits at theta (P,)."""
        theta = theta.detach().requires_grad_()
        gradient, loss, logits = torch.zeros_like(theta), theta.new_zeros(()), []
        for part, share in parts(batch, self.microbatch):
            found = self.model.logits(theta, part.images.detach())
            part_loss = share * soft_cross_entropy(found, part.labels.detach())
            gradient += torch.autograd.grad(part_loss, theta)[0]
            loss += part_loss.detach()
            logits.append(found.detach())
        return Evaluation(loss, gradient.detach(), torch.cat(logits))

    @torch.enable_grad()
    def product(self, theta: Tensor, batch: Batch, vector: Tensor) -> Product:
        """Return the derivatives of <gradient, vector> at theta (P,)."""
        theta = theta.detach().requires_grad_()
        hessian, images, labels = torch.zeros_like(theta), [], []
        for part, share in parts(batch, self.microbatch):
            x, y = (tensor.detach().requires_grad_() for tensor in part)
            loss = share * soft_cross_entropy(self.model.logits(theta, x), y)
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
            try:
                found = torch.autograd.grad(gradient, (theta, x, y), vector, allow_unused=True)
            except RuntimeError as error:
                if "is not implemented" not in str(error):
                    raise
                raise _no_second_derivative(error) from error
            # A network that is linear in its parameters has no Hessian, and so on.
            zeros = (torch.zeros_like(of) for of in (theta, x, y))
            h, dx, dy = (z if f is None else f for f, z in zip(found, zeros, strict=True))
            hessian += h
            images.append(dx)
            labels.append(dy)
        return Product(hessian.detach(), torch.cat(images), torch.cat(labels))


def parts(batch: Batch, size: int | None) -> list[tuple[Batch, float]]:
    """Split a batch into parts of at most `size` images, each with its share of the images."""
    count = len(batch.images)
    if size is None or size >= count:
        return [(batch, 1.0)]
    cuts = [slice(start, start + size) for start in range(0, count, size)]
    pieces = [Batch(batch.images[cut], batch.labels[cut]) for cut in cuts]
    return [(piece, len(piece.images) / count) for piece in pieces]


def _no_second_derivative(error: RuntimeError) -> InputError:
    return InputError(
        f"the backbone cannot be distilled with: {str(error).splitlines()[0].rstrip('.')}.",
        expected="a network whose operations have second derivatives.",
        next="choose another --backbone; this one can still be used by `distill evaluate`.",
    )

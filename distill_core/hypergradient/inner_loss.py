"""What the engine needs of a network: the inner loss's gradient, and its product with a vector.

The inner loss is cross-entropy with soft labels, the mean over a batch. `AutogradLoss`
(autograd_loss.py) serves any backbone; `ConvNetLoss` (convnet_loss.py) the paper's, faster.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from distill_core.functional import FlatModel
from distill_core.synthetic import Batch


class Retained(Protocol):
    """What an evaluation left for a product at the same place; only its inner loss reads it."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        ...


class Evaluation(NamedTuple):
    """What is known of a batch's loss; no graph.

    Attributes:
        loss: a scalar.
        gradient: (P,) of the loss in the parameters.
        logits: (n, K).
        retained: activations, where they were to be retained.
    """

    loss: Tensor
    gradient: Tensor
    logits: Tensor
    retained: Retained | None = None


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
        activation_cache: bytes of activations that a training on it may retain.
    """

    model: FlatModel
    activation_cache: int

    def evaluate(self, theta: Tensor, batch: Batch, *, retain: bool = False) -> Evaluation:
        """Return loss, gradient and logits at theta (P,).

        Args:
            theta: parameters.
            batch: images and soft labels.
            retain: also retain activations.
        """
        ...

    def product(
        self, theta: Tensor, batch: Batch, vector: Tensor, retained: Retained | None = None
    ) -> Product:
        """Return the derivatives of <gradient, vector> at theta (P,).

        Args:
            theta: parameters.
            batch: images and soft labels.
            vector: (P,), a constant.
            retained: from `evaluate` at the same theta and batch: saves computing activations
                again, and changes nothing but rounding. Can be used once.

        Raises:
            InputError: the network has an operation without a second derivative.
        """
        ...


def parts(batch: Batch, size: int | None) -> list[tuple[Batch, float]]:
    """Split a batch into parts of at most `size` images, each with its share of the images."""
    count = len(batch.images)
    if size is None or size >= count:
        return [(batch, 1.0)]
    cuts = [slice(start, start + size) for start in range(0, count, size)]
    pieces = [Batch(batch.images[cut], batch.labels[cut]) for cut in cuts]
    return [(piece, len(piece.images) / count) for piece in pieces]

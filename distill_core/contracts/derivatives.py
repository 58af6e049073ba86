"""What an algorithm may ask of the engine: derivatives of the inner loss, features, Jacobians.

The inner loss is cross-entropy with soft labels, averaged over a batch. The room `engine` has the
implementations: by autograd for any backbone, by kernels for the paper's ConvNet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from distill_core.contracts.network import Backbone, FlatModel
from distill_core.contracts.synthetic import Batch


class Jacobian(Protocol):
    """The Jacobian J at some images and the network's parameters, for several products."""

    @property
    def features(self) -> Tensor:
        """(n, d) of the images."""
        ...

    def times(self, tangent: Tensor) -> Tensor:
        """Return J tangent (n, K) for a tangent (P,); the result need not have a graph."""
        ...

    def transposed(self, cotangent: Tensor) -> Tensor:
        """Return J^T c (P,) for c (n, K), without a graph."""
        ...


class Retained(Protocol):
    """What an evaluation keeps for a product at the same point; only its inner loss reads it."""

    @property
    def nbytes(self) -> int:
        """Bytes that it uses."""
        ...


class Evaluation(NamedTuple):
    """The loss of a batch, without a graph.

    Attributes:
        loss: a scalar.
        gradient: (P,) of the loss in the parameters.
        logits: (n, K).
        retained: activations, if they were to be retained.
    """

    loss: Tensor
    gradient: Tensor
    logits: Tensor
    retained: Retained | None = None


class Product(NamedTuple):
    """Derivatives of <gradient, vector>, without a graph: in theta (the Hessian times the vector,
    (P,)), in the images (n, C, h, w) and in the labels (n, K)."""

    theta: Tensor
    images: Tensor
    labels: Tensor


class InnerLoss(Protocol):
    """Derivatives of the inner loss at flat parameters; a pure function of its arguments.

    Attributes:
        model: the network, with its initial parameters.
        activation_cache: bytes of activations that one training may retain.
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
            retained: from `evaluate` at the same theta and batch; saves computing activations
                again, and changes only rounding. Can be used once.

        Raises:
            InputError: the network has an operation without a second derivative.
        """
        ...


Features = Callable[[Tensor], Tensor]


@runtime_checkable
class Engine(Protocol):
    """Differentiates networks; chosen once per run, by its options and its device."""

    @property
    def microbatch(self) -> int | None:
        """Images of an inner batch at a time; None for all."""
        ...

    @property
    def real_chunk(self) -> int:
        """Images of the real batch at a time."""
        ...

    @property
    def activation_cache(self) -> int:
        """Bytes that activations of differentiated steps may take."""
        ...

    def without_cache(self) -> Engine:
        """Return an engine that retains no activations, so that memory can be counted."""
        ...

    def loss(self, backbone: Backbone) -> InnerLoss:
        """Return the inner loss of a network in its current mode; parameters are copied."""
        ...

    def features(self, backbone: Backbone) -> Features:
        """Return a function from images (n, C, h, w) to a network's features (n, d).

        It can be differentiated once, in the images and in the network's parameters. Each call
        uses the parameters that the network has then.
        """
        ...

    def jacobian(self, backbone: Backbone) -> Callable[[Tensor], Jacobian]:
        """Return a function from images (n, C, h, w) to the Jacobian of a network's logits.

        The Jacobian is used by its products. The network's parameters are copied.
        """
        ...

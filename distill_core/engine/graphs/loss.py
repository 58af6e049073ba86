"""An inner loss whose derivatives are captured in CUDA graphs, one per shape of a batch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from distill_core.contracts.derivatives import Evaluation, InnerLoss, Product, Retained
from distill_core.contracts.synthetic import Batch
from distill_core.engine.graphs.capture import Graphs


class GraphedLoss:
    """Captures and replays another inner loss. It retains no activations.

    A graph captured with one network serves all networks of its structure, because parameters are
    arguments. So the network must not have buffers or frozen parameters.

    Args:
        loss: the loss to capture.
        graphs: shared by the losses of all networks of the structure.
        kind: what else decides how `loss` computes; graphs of different kinds are kept apart.
    """

    activation_cache = 0

    def __init__(self, loss: InnerLoss, graphs: Graphs, kind: Hashable = None) -> None:
        self.model = loss.model
        self.graphs = graphs
        self.plain = loss
        self.kind = kind

    def evaluate(self, theta: Tensor, batch: Batch, *, retain: bool = False) -> Evaluation:
        """Return loss, gradient and logits at theta (P,)."""
        del retain
        with torch.no_grad():
            found = self.graphs.call(("evaluate", self.kind), self._evaluate, theta, *batch)
        return Evaluation(*found)

    def product(
        self, theta: Tensor, batch: Batch, vector: Tensor, retained: Retained | None = None
    ) -> Product:
        """Return the derivatives of <gradient, vector> at theta (P,)."""
        del retained
        with torch.no_grad():
            found = self.graphs.call(("product", self.kind), self._product, theta, *batch, vector)
        return Product(*found)

    def _evaluate(self, theta: Tensor, images: Tensor, labels: Tensor) -> Sequence[Tensor]:
        return self.plain.evaluate(theta, Batch(images, labels))[:3]

    def _product(
        self, theta: Tensor, images: Tensor, labels: Tensor, vector: Tensor
    ) -> Sequence[Tensor]:
        return self.plain.product(theta, Batch(images, labels), vector)

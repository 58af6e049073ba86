"""The inner loss of any backbone, differentiated by reverse mode over reverse mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from distill_core.contracts.derivatives import Evaluation, Product, Retained
from distill_core.contracts.network import FlatModel
from distill_core.contracts.synthetic import Batch
from distill_core.engine.losses import soft_cross_entropy
from distill_core.system.memory import PeakBytes
from registry import InputError, first_line


def microbatches(batch: Batch, size: int | None) -> list[tuple[Batch, float]]:
    """Split a batch into parts of at most `size` images; return each with its share of the images.

    None: one part with all images.
    """
    count = len(batch.images)
    if size is None or size >= count:
        return [(batch, 1.0)]
    cuts = [slice(start, start + size) for start in range(0, count, size)]
    pieces = [Batch(batch.images[cut], batch.labels[cut]) for cut in cuts]
    return [(piece, len(piece.images) / count) for piece in pieces]


GraphSizes = dict[torch.Size, int]


class AutogradLoss:
    """Cross-entropy of any backbone, on any device. It retains the graph of the gradient.

    Args:
        model: the network.
        microbatch: images at a time, None for all. Do not split the batches of a network that
            mixes images (batch normalisation); for all others the result is the same.
        activation_cache: bytes of graphs that one training may retain.
        sizes: bytes of a graph by the images' shape, shared by networks of one structure; missing
            entries are measured and added.
    """

    def __init__(
        self,
        model: FlatModel,
        microbatch: int | None = None,
        *,
        activation_cache: int = 0,
        sizes: GraphSizes | None = None,
    ) -> None:
        self.model = model
        self.microbatch = microbatch
        self.activation_cache = activation_cache
        self._sizes: GraphSizes = {} if sizes is None else sizes

    def evaluate(self, theta: Tensor, batch: Batch, *, retain: bool = False) -> Evaluation:
        """Return loss, gradient and logits at theta (P,)."""
        if not retain:
            return self._evaluate(theta, batch)
        shape = batch.images.shape
        if shape in self._sizes:
            return self._evaluate(theta, batch, _Graphs([], self._sizes[shape]))
        with PeakBytes() as memory:
            found = self._evaluate(theta, batch, graphs := _Graphs([], 0))
        self._sizes[shape] = graphs.nbytes = memory.alive
        return found

    def product(
        self, theta: Tensor, batch: Batch, vector: Tensor, retained: Retained | None = None
    ) -> Product:
        """Return the derivatives of <gradient, vector> at theta (P,)."""
        if isinstance(retained, _Graphs):
            graphs = retained.pop()
        else:
            graphs = (pass_.graph for pass_ in self._passes(theta, batch, create_graph=True))
        hessian, images, labels = torch.zeros_like(theta), [], []
        for graph in graphs:
            part = graph.product(vector)
            hessian += part.theta
            images.append(part.images)
            labels.append(part.labels)
        return Product(hessian, torch.cat(images), torch.cat(labels))

    def _evaluate(self, theta: Tensor, batch: Batch, graphs: _Graphs | None = None) -> Evaluation:
        """As `evaluate`; append the graph of every part to `graphs`."""
        gradient, loss, logits = torch.zeros_like(theta), theta.new_zeros(()), []
        for part in self._passes(theta, batch, create_graph=graphs is not None):
            gradient += part.graph.gradient.detach()
            loss += part.loss
            logits.append(part.logits)
            if graphs is not None:
                graphs.parts.append(part.graph)
        return Evaluation(loss, gradient, torch.cat(logits), graphs)

    def _passes(self, theta: Tensor, batch: Batch, *, create_graph: bool) -> Iterator[_Pass]:
        """Forward and backward pass of every part of a batch; with `create_graph` the gradient
        keeps its graph."""
        for part, share in microbatches(batch, self.microbatch):
            with torch.enable_grad():
                variable = theta.detach().requires_grad_()
                x, y = (tensor.detach().requires_grad_(create_graph) for tensor in part)
                logits = self.model.logits(variable, x)
                loss = share * soft_cross_entropy(logits, y)
                (gradient,) = torch.autograd.grad(loss, variable, create_graph=create_graph)
            yield _Pass(loss.detach(), logits.detach(), _Graph(variable, x, y, gradient))


class _Graph(NamedTuple):
    """The gradient of a part of a batch, and what it was made from."""

    theta: Tensor
    images: Tensor
    labels: Tensor
    gradient: Tensor

    def product(self, vector: Tensor) -> Product:
        """Return the derivatives of <gradient, vector>, and free the graph."""
        given = (self.theta, self.images, self.labels)
        try:
            found = torch.autograd.grad(self.gradient, given, vector, allow_unused=True)
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise
            raise _no_second_derivative(error) from error
        # Derivatives may be missing: a network linear in its parameters has no Hessian.
        zeros = (torch.zeros_like(of) for of in given)
        return Product(*(z if f is None else f for f, z in zip(found, zeros, strict=True)))


class _Pass(NamedTuple):
    """Loss and logits of a part, without a graph, and its gradient."""

    loss: Tensor
    logits: Tensor
    graph: _Graph


@dataclass
class _Graphs:
    """The graphs of a batch, one per part."""

    parts: list[_Graph]
    nbytes: int

    def pop(self) -> Iterator[_Graph]:
        """Yield the graphs one by one, and forget each."""
        while self.parts:
            yield self.parts.pop(0)


def _no_second_derivative(error: RuntimeError) -> InputError:
    return InputError(
        f"the backbone cannot be distilled with: {first_line(error).rstrip('.')}.",
        expected="a network whose operations have second derivatives.",
        next="choose another --backbone; this one can still be used by `distill evaluate`.",
    )

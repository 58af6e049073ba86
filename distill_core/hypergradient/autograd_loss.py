"""The inner loss of any backbone, by reverse mode over reverse mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from distill_core.functional import FlatModel
from distill_core.hypergradient.inner_loss import Evaluation, Product, Retained, parts
from distill_core.losses import soft_cross_entropy
from distill_core.measure import PeakBytes
from distill_core.synthetic import Batch
from registry import InputError

GraphSizes = dict[torch.Size, int]


class AutogradLoss:
    """Cross-entropy of any backbone, on any device. What it retains is the gradient's graph.

    Args:
        model: the network.
        microbatch: images at a time, None for all; exact unless the network mixes images (batch
            normalisation), whose batch must not be split.
        activation_cache: bytes of graphs that a training may retain.
        sizes: bytes of graphs by the images' shape, counted for other networks like this one; what
            is missing is counted and added.
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
        """As `evaluate`; the graph of every part is added to `graphs`."""
        gradient, loss, logits = torch.zeros_like(theta), theta.new_zeros(()), []
        for part in self._passes(theta, batch, create_graph=graphs is not None):
            gradient += part.graph.gradient.detach()
            loss += part.loss
            logits.append(part.logits)
            if graphs is not None:
                graphs.parts.append(part.graph)
        return Evaluation(loss, gradient, torch.cat(logits), graphs)

    def _passes(self, theta: Tensor, batch: Batch, *, create_graph: bool) -> Iterator[_Pass]:
        """A pass there and back for every part of a batch; the gradient has a graph, or none."""
        for part, share in parts(batch, self.microbatch):
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
        """Return the derivatives of <gradient, vector>; the graph is gone then."""
        given = (self.theta, self.images, self.labels)
        try:
            found = torch.autograd.grad(self.gradient, given, vector, allow_unused=True)
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise
            raise _no_second_derivative(error) from error
        # A network that is linear in its parameters has no Hessian, and so on.
        zeros = (torch.zeros_like(of) for of in given)
        return Product(*(z if f is None else f for f, z in zip(found, zeros, strict=True)))


class _Pass(NamedTuple):
    """Loss and logits of a part, without a graph, and its gradient."""

    loss: Tensor
    logits: Tensor
    graph: _Graph


@dataclass
class _Graphs:
    """The graphs of a batch, part by part."""

    parts: list[_Graph]
    nbytes: int

    def pop(self) -> Iterator[_Graph]:
        """Give the graphs out, and forget them."""
        while self.parts:
            yield self.parts.pop(0)


def _no_second_derivative(error: RuntimeError) -> InputError:
    return InputError(
        f"the backbone cannot be distilled with: {str(error).splitlines()[0].rstrip('.')}.",
        expected="a network whose operations have second derivatives.",
        next="choose another --backbone; this one can still be used by `distill evaluate`.",
    )

"""The inner loss of the paper's ConvNet, by hand-derived tangents and adjoints.

One product takes a forward pass with its tangent along the vector, and one backward sweep through
both: eight convolutions per layer, or six if activations were retained. A gradient takes three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from distill_core.contracts.derivatives import Evaluation, Product, Retained
from distill_core.contracts.network import ConvBlocks, FlatModel
from distill_core.contracts.synthetic import Batch
from distill_core.engine.autograd import microbatches
from distill_core.engine.convnet_body import ConvNetBody, Layers, Primal, parts_of
from distill_core.engine.kernels.blocks import Blocks, Cotangents, State, halves
from distill_core.engine.kernels.choice import blocks_for


class _Network(NamedTuple):
    """All parameters, or a direction in them. The head reads features channels last: (K, d)."""

    layers: Layers
    head: Tensor
    head_bias: Tensor


@dataclass(frozen=True)
class _Primals:
    """What the blocks retain of a batch, part by part."""

    parts: list[list[Primal]]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for part in self.parts for primal in part for tensor in primal)


class ConvNetLoss:
    """Cross-entropy of a network of `ConvBlocks`. It retains the results of its convolutions,
    forward and backward.

    Args:
        model: the network.
        structure: its blocks, from `Backbone.conv_blocks`.
        storage: dtype of activations: that of theta, or bfloat16 beside float32 parameters.
        microbatch: images at a time, None for all; the result is the same up to rounding.
        activation_cache: bytes that one training may retain.
        blocks: used instead of the device's own; `storage` is then theirs.

    Raises:
        Unavailable: the device has no kernels here.
    """

    def __init__(
        self,
        model: FlatModel,
        structure: ConvBlocks,
        *,
        storage: torch.dtype | None = None,
        microbatch: int | None = None,
        activation_cache: int = 0,
        blocks: Blocks | None = None,
    ) -> None:
        self.model = model
        self.microbatch = microbatch
        self.activation_cache = activation_cache
        theta = model.theta
        self._body = ConvNetBody(
            structure, blocks or blocks_for(theta.device, storage or theta.dtype)
        )

    @torch.no_grad()
    def evaluate(self, theta: Tensor, batch: Batch, *, retain: bool = False) -> Evaluation:
        """Return loss, gradient and logits at theta (P,)."""
        network = self._network(theta)
        gradient, loss, logits = torch.zeros_like(theta), theta.new_zeros(()), []
        retained = list[list[Primal]]()
        for part, share in microbatches(batch, self.microbatch):
            primals = list[Primal]() if retain else None
            found = self._evaluate(network, part, share, gradient, primals=primals)
            loss += found.loss
            logits.append(found.logits)
            if primals is not None:
                retained.append(primals)
        return Evaluation(loss, gradient, _joined(logits), _Primals(retained) if retain else None)

    @torch.no_grad()
    def product(
        self, theta: Tensor, batch: Batch, vector: Tensor, retained: Retained | None = None
    ) -> Product:
        """Return the derivatives of <gradient, vector> at theta (P,)."""
        network, tangent = self._network(theta), self._network(vector)
        hessian, images, labels = torch.zeros_like(theta), [], []
        known = retained.parts if isinstance(retained, _Primals) else None
        for place, (part, share) in enumerate(microbatches(batch, self.microbatch)):
            primals = known[place] if known else ()
            dx, dy = self._product(network, tangent, part, share, hessian, primals=primals)
            images.append(dx)
            labels.append(dy)
        return Product(hessian, _joined(images), _joined(labels))

    def _evaluate(
        self,
        network: _Network,
        batch: Batch,
        share: float,
        gradient: Tensor,
        *,
        primals: list[Primal] | None,
    ) -> Evaluation:
        """Loss and logits of a part; add its gradient to `gradient`."""
        images, labels, kept = self._body.images(batch.images), batch.labels, list[State]()
        a = self._body.forward(network.layers, images, kept)
        features = a.flatten(1).to(self._body.arithmetic)
        logits = torch.addmm(network.head_bias, features, network.head.t())
        loss, dlogits = self._body.blocks.cross_entropy(logits, labels, share / len(images))
        cotangent = (dlogits @ network.head).to(a.dtype).view_as(a)
        layers = self._body.backward(network.layers, images, kept, cotangent, primals=primals)
        self._add(gradient, _Network(layers, dlogits.t() @ features, dlogits.sum(0)))
        return Evaluation(loss, gradient, logits)

    def _product(
        self,
        network: _Network,
        tangent: _Network,
        batch: Batch,
        share: float,
        hessian: Tensor,
        *,
        primals: Sequence[Primal],
    ) -> tuple[Tensor, Tensor]:
        """dL'/d images and labels of a part, where L' = <gradient, vector>; add the Hessian times
        the vector to `hessian`."""
        images, labels, n = self._body.images(batch.images), batch.labels, len(batch.images)
        both, kept = self._body.tangent_forward(
            network.layers, tangent.layers, images, primals=primals
        )
        features, tfeatures = halves(both.flatten(1).to(self._body.arithmetic))
        logits = torch.addmm(network.head_bias, features, network.head.t())
        tlogits = tangent.head_bias + tfeatures @ network.head.t() + features @ tangent.head.t()
        dtlogits, dlogits, dlabels = self._body.blocks.tangent_cross_entropy(
            logits, tlogits, labels, share / n
        )
        P = (dtlogits @ network.head).to(both.dtype).view_as(both[:n])
        Q = (dlogits @ network.head + dtlogits @ tangent.head).to(both.dtype).view_as(P)
        layers, dimages = self._body.tangent_backward(
            network.layers, tangent.layers, images, kept, Cotangents(P, Q), primals=primals
        )
        dhead = dlogits.t() @ features + dtlogits.t() @ tfeatures
        self._add(hessian, _Network(layers, dhead, dlogits.sum(0)))
        return dimages, dlabels

    def _network(self, flat: Tensor) -> _Network:
        """Parameters by layer, as views of a flat vector (P,) where possible."""
        values = self.model.views(flat)
        head, (h, w) = values["head.weight"], self._body.structure.last_hw
        by_pixel = head.view(len(head), -1, h, w).permute(0, 2, 3, 1).reshape(len(head), -1)
        layers = self._body.layers([values[name] for name in self._body.names])
        return _Network(layers, by_pixel, values["head.bias"])

    def _add(self, to: Tensor, more: _Network) -> None:
        """Add derivatives by layer to a flat vector (P,), all at once; parameters without one (the
        bias before a norm) stay zero."""
        h, w = self._body.structure.last_hw
        by_channel = more.head.view(len(more.head), h, w, -1).permute(0, 3, 1, 2)
        found = dict(zip(self._body.names, parts_of(more.layers), strict=True))
        found |= {"head.weight": by_channel, "head.bias": more.head_bias}
        places = self.model.places()
        to.add_(torch.cat([found.get(n, to[at]).reshape(-1) for n, (at, _) in places.items()]))


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat(tensors) if len(tensors) > 1 else tensors[0]

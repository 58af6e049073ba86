"""The inner loss of the paper's ConvNet, by hand-derived tangents and adjoints.

One product takes a forward pass with its tangent along the vector and one sweep back through both:
eight convolutions for each layer, where a gradient takes three. All of it is C functions of
`kernels`, but for the head.

The bias of a convolution has no effect before a norm; its gradient is exactly zero here, where
autograd finds rounding errors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distill_core.contracts import ConvBlocks
from distill_core.functional import FlatModel
from distill_core.hypergradient.inner_loss import Evaluation, Product, parts
from distill_core.kernels import convolution
from distill_core.kernels.blocks import Blocks, Cotangents, Layer, Norm
from distill_core.synthetic import Batch


class _Network(NamedTuple):
    """All parameters, or a direction in them. The head reads features channels last: (K, d)."""

    layers: list[Layer]
    head: Tensor
    head_bias: Tensor


_Kept = tuple[Tensor, Tensor, Tensor]  # of a block: what goes in, its convolution, statistics


class ConvNetLoss:
    """Cross-entropy of a network of `ConvBlocks`, on the CPU.

    Args:
        model: the network.
        structure: what it consists of, from `Backbone.conv_blocks`.
        storage: type of activations: that of theta, or bfloat16 beside float32 parameters.
        microbatch: images at a time, None for all; the result is the same but for rounding.

    Raises:
        Unavailable: there is no compiled library here.
    """

    def __init__(
        self,
        model: FlatModel,
        structure: ConvBlocks,
        *,
        storage: torch.dtype | None = None,
        microbatch: int | None = None,
    ) -> None:
        self.model = model
        self.structure = structure
        self.microbatch = microbatch
        self._blocks = Blocks(storage or model.theta.dtype)
        self._places = model.places()

    @torch.no_grad()
    def evaluate(self, theta: Tensor, batch: Batch) -> Evaluation:
        """Return loss, gradient and logits at theta (P,)."""
        network = self._network(theta)
        gradient, loss, logits = torch.zeros_like(theta), theta.new_zeros(()), []
        for part, share in parts(batch, self.microbatch):
            found = self._evaluate(network, part, share, gradient)
            loss += found.loss
            logits.append(found.logits)
        return Evaluation(loss, gradient, torch.cat(logits))

    @torch.no_grad()
    def logits(self, theta: Tensor, images: Tensor) -> Tensor:
        """Return logits (n, K) of images (n, C, h, w) at theta (P,); all at a time."""
        network = self._network(theta)
        a = self._features(network, images.contiguous())
        return self._logits(network, a.flatten(1).to(self._blocks.arithmetic))

    @torch.no_grad()
    def product(self, theta: Tensor, batch: Batch, vector: Tensor) -> Product:
        """Return the derivatives of <gradient, vector> at theta (P,)."""
        network, tangent = self._network(theta), self._network(vector)
        hessian, images, labels = torch.zeros_like(theta), [], []
        for part, share in parts(batch, self.microbatch):
            dx, dy = self._product(network, tangent, part, share, hessian)
            images.append(dx)
            labels.append(dy)
        return Product(hessian, torch.cat(images), torch.cat(labels))

    def _evaluate(
        self, network: _Network, batch: Batch, share: float, gradient: Tensor
    ) -> Evaluation:
        """Loss and logits of a part; its gradient is added to `gradient`."""
        blocks, pad = self._blocks, self.structure.padding
        first, *later = network.layers
        images, labels = batch.images.contiguous(), batch.labels
        kept: list[_Kept] = []
        a = self._features(network, images, kept)
        features = a.flatten(1).to(blocks.arithmetic)
        logits = self._logits(network, features)
        scale = share / len(images)
        log_probabilities = torch.log_softmax(logits, 1)
        mass = labels.sum(1, keepdim=True)
        dlogits = (mass * log_probabilities.exp() - labels) * scale
        self._add_head(gradient, dlogits.t() @ features, dlogits.sum(0))
        P = (dlogits @ network.head).to(a.dtype).view_as(a)
        for depth in range(len(later), 0, -1):
            layer, (below, z, stats) = later[depth - 1], kept.pop()
            p, norm = blocks.backward(z, layer.norm, stats, P)
            P, weight = convolution.backward(p, below, layer.weight)
            self._add_layer(gradient, depth, Layer(weight, norm))
        self._add_layer(gradient, 0, blocks.first_backward(images, pad, first, P))
        return Evaluation(-(labels * log_probabilities).sum() * scale, gradient, logits)

    def _features(
        self, network: _Network, images: Tensor, kept: list[_Kept] | None = None
    ) -> Tensor:
        """What the last block gives, (n, h, w, C); what the sweep back needs goes into `kept`."""
        first, *later = network.layers
        a = self._blocks.first_forward(images, self.structure.padding, first)
        for layer in later:
            z = convolution.forward(a, layer.weight)
            above, stats = self._blocks.forward(z, layer.norm)
            if kept is not None:
                kept.append((a, z, stats))
            a = above
        return a

    @staticmethod
    def _logits(network: _Network, features: Tensor) -> Tensor:
        return torch.addmm(network.head_bias, features, network.head.t())

    def _product(
        self, network: _Network, tangent: _Network, batch: Batch, share: float, hessian: Tensor
    ) -> tuple[Tensor, Tensor]:
        """dL'/d images and labels of a part, where L' = <gradient, vector>; the Hessian times the
        vector is added to `hessian`."""
        blocks, pad = self._blocks, self.structure.padding
        (first, *later), (tfirst, *tlater) = network.layers, tangent.layers
        images, labels, n = batch.images.contiguous(), batch.labels, len(batch.images)
        both = blocks.first_tangent_forward(images, pad, first, tfirst)
        kept = []
        for layer, tlayer in zip(later, tlater, strict=True):
            values = convolution.tangent_forward(both, layer.weight, tlayer.weight)
            above, stats = blocks.tangent_forward(values, layer.norm, tlayer.norm)
            kept.append((both, values, stats))
            both = above
        features, tfeatures = convolution.halves(both.flatten(1).to(blocks.arithmetic))
        logits = torch.addmm(network.head_bias, features, network.head.t())
        tlogits = tangent.head_bias + tfeatures @ network.head.t() + features @ tangent.head.t()
        scale = share / n
        probabilities = torch.softmax(logits, 1)
        mass = labels.sum(1, keepdim=True)
        expected = (probabilities * tlogits).sum(1, keepdim=True)
        dlabels = (expected - tlogits) * scale
        dtlogits = (mass * probabilities - labels) * scale
        dlogits = mass * probabilities * (tlogits - expected) * scale
        self._add_head(hessian, dlogits.t() @ features + dtlogits.t() @ tfeatures, dlogits.sum(0))
        P = (dtlogits @ network.head).to(both.dtype).view_as(both[:n])
        Q = (dlogits @ network.head + dtlogits @ tangent.head).to(both.dtype).view_as(P)
        cotangents = Cotangents(P, Q)
        for depth in range(len(later), 0, -1):
            layer, tlayer, (both, values, stats) = later[depth - 1], tlater[depth - 1], kept.pop()
            qp, norm = blocks.tangent_backward(values, layer.norm, tlayer.norm, stats, cotangents)
            cotangents, weight = convolution.tangent_backward(qp, both, layer.weight, tlayer.weight)
            self._add_layer(hessian, depth, Layer(weight, norm))
        below, dimages = blocks.first_tangent_backward(images, pad, first, tfirst, cotangents)
        self._add_layer(hessian, 0, below)
        return dimages, dlabels

    def _network(self, flat: Tensor) -> _Network:
        """Parameters by layer, as views of a flat vector (P,) where they can be."""
        layers = []
        for names in self.structure.layers:
            weight, gain, bias = (self._part(flat, name) for name in names)
            layers.append(Layer(weight, Norm(gain, bias)))
        head = self._part(flat, "head.weight")
        h, w = self.structure.last_hw
        by_pixel = head.view(len(head), -1, h, w).permute(0, 2, 3, 1).reshape(len(head), -1)
        return _Network(layers, by_pixel, self._part(flat, "head.bias"))

    def _part(self, flat: Tensor, name: str) -> Tensor:
        place, shape = self._places[name]
        return flat[place].view(shape)

    def _add_layer(self, to: Tensor, depth: int, layer: Layer) -> None:
        names = self.structure.layers[depth]
        for name, value in zip(names, (layer.weight, *layer.norm), strict=True):
            self._part(to, name).add_(value)

    def _add_head(self, to: Tensor, head: Tensor, bias: Tensor) -> None:
        h, w = self.structure.last_hw
        by_channel = head.view(len(head), h, w, -1).permute(0, 3, 1, 2).reshape(len(head), -1)
        self._part(to, "head.weight").add_(by_channel)
        self._part(to, "head.bias").add_(bias)

"""Features of a network by the kernels, as an operation of PyTorch.

For everything except the inner loss: regressions on features, mean features, and ordinary training
and testing, which put the head or something else on top. The result equals `Backbone.embed` up to
rounding. It can be differentiated once, in the images and in the network's parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from distill_core.contracts.derivatives import Features
from distill_core.contracts.network import Backbone, ConvBlocks
from distill_core.engine.convnet_body import ConvNetBody, parts_of
from distill_core.engine.kernels.blocks import State
from distill_core.engine.kernels.choice import blocks_for, check
from distill_core.engine.kernels.native import Unavailable


def no_kernels(backbone: nn.Module, device: torch.device) -> str:
    """Say why the kernels cannot serve a network on a device, and what helps; empty if they can."""
    if not isinstance(backbone, Backbone) or backbone.conv_blocks() is None:
        return f"no kernels for this {type(backbone).__name__}"
    if device.type not in {"cpu", "cuda"}:
        return f"no kernels for {device.type}"
    try:
        check(device)
    except Unavailable as error:
        return f"{error}; {error.next}"
    return ""


def convnet_features(
    backbone: Backbone, structure: ConvBlocks, storage: torch.dtype | None = None
) -> Features:
    """Return a function from images (n, C, h, w) to features (n, d).

    Args:
        backbone: each call uses the parameters that it has then.
        structure: its blocks, from `Backbone.conv_blocks`.
        storage: dtype of activations: that of the parameters, or bfloat16 beside float32.

    Raises:
        Unavailable: there are no kernels for the device.
    """
    named = dict(backbone.named_parameters())
    weight = backbone.head.weight
    body = ConvNetBody(structure, blocks_for(weight.device, storage or weight.dtype))
    head = {id(parameter) for parameter in backbone.head.parameters()}
    used = [named[name] for name in body.names]
    unused = [p for name, p in named.items() if name not in body.names and id(p) not in head]

    def features(images: Tensor) -> Tensor:
        operands = (images, *used, *unused)
        if torch.is_grad_enabled() and any(operand.requires_grad for operand in operands):
            found: Tensor = _Features.apply(body, len(used), *operands)
            return found
        return _forward(body, images, used)

    return features


class _Features(torch.autograd.Function):
    """Features of images and the body's parameters; the remaining parameters have no effect."""

    @staticmethod
    def forward(
        ctx: Any, body: ConvNetBody, used: int, images: Tensor, *parameters: Tensor
    ) -> Tensor:
        ctx.body, ctx.used, ctx.given, kept = body, used, 1 + len(parameters), list[State]()
        features = _forward(body, images, parameters[:used], kept)
        ctx.sizes = [len(state) for state in kept]
        # Saved through PyTorch, which may drop and recompute it (checkpointing).
        ctx.save_for_backward(images, *parameters, *(part for state in kept for part in state))
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        body, saved = ctx.body, ctx.saved_tensors
        (images, *parameters), rest = saved[: ctx.given], iter(saved[ctx.given :])
        kept = [tuple(islice(rest, size)) for size in ctx.sizes]
        layers, images = body.layers(parameters[: ctx.used]), body.images(images)
        above, dimages = body.unflattened(cotangent), None
        if ctx.needs_input_grad[2]:
            found, dimages = body.backward_to_images(layers, images, kept, above)
        else:
            found = body.backward(layers, images, kept, above)
        unused = [torch.zeros_like(parameter) for parameter in parameters[ctx.used :]]
        return None, None, dimages, *parts_of(found), *unused


def _forward(
    body: ConvNetBody, images: Tensor, parts: Sequence[Tensor], kept: list[State] | None = None
) -> Tensor:
    return body.flattened(body.forward(body.layers(parts), body.images(images), kept))

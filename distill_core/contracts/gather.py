"""Cut boxes out of canvases, differentiably: what makes images of pixels that items share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from distill_core.contracts.geometry import Boxes
from distill_core.contracts.transfer import to_device

SOME = 256  # boxes that a CPU looks at at once


def gather_boxes(pixels: Tensor, boxes: Boxes) -> Tensor:
    """Cut boxes out of canvases: one gather, whose adjoint is one scatter-add.

    On a CPU many boxes are cut out some at a time: indices and a copy of all of them would take
    almost twice what is returned, and would be kept for the adjoint.

    Args:
        pixels: (canvases, C, H, W), carries the gradient.
        boxes: n boxes of one size; they wrap around if they leave the canvas.

    Returns:
        (n, C, h, w), contiguous.
    """
    if len(boxes) > SOME and pixels.device.type == "cpu":
        found: Tensor = _CutInParts.apply(pixels, boxes)
        return found
    return _cut(pixels, boxes)


def _cut(pixels: Tensor, boxes: Boxes) -> Tensor:
    index = _index(boxes, pixels.shape, pixels.device)
    # Channel by channel: on a CPU ten times faster than gathering pixels of all channels.
    flat = pixels.transpose(0, 1).flatten(1)
    # On CUDA the adjoint, `index_add`, adds by atomic operations in any order. By PyTorch's
    # documentation `torch.use_deterministic_algorithms` gives both operations a fixed order.
    cut = flat.index_select(1, index)
    cut = cut.view(len(flat), len(boxes), *boxes.hw)
    return cut.transpose(0, 1).contiguous()


class _CutInParts(Function):
    """`_cut`, some boxes at a time; linear, so that it is the derivative of its derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(pixels: Tensor, boxes: Boxes) -> Tensor:
        found = pixels.new_empty((len(boxes), pixels.shape[1], *boxes.hw))
        for part in _parts(boxes):
            found[part] = _cut(pixels, boxes[part])
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Boxes], output: Tensor) -> None:
        pixels, ctx.boxes = inputs
        ctx.shape = pixels.shape

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _AddInParts.apply(gradients[0], ctx.boxes, ctx.shape), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        cut: Tensor = _CutInParts.apply(tangents[0], ctx.boxes)
        return cut


class _AddInParts(Function):
    """The adjoint: every pixel gets the sum over its boxes, in their order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, boxes: Boxes, shape: torch.Size) -> Tensor:
        canvases, channels, height, width = shape
        total = images.new_zeros((channels, canvases * height * width))
        for part in _parts(boxes):
            index = _index(boxes[part], shape, images.device)
            total.index_add_(1, index, images[part].transpose(0, 1).flatten(1))
        return total.view(channels, canvases, height, width).transpose(0, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Boxes, torch.Size], output: Tensor) -> None:
        _, ctx.boxes, ctx.shape = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _CutInParts.apply(gradients[0], ctx.boxes), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        added: Tensor = _AddInParts.apply(tangents[0], ctx.boxes, ctx.shape)
        return added


def _parts(boxes: Boxes) -> list[slice]:
    return [slice(start, start + SOME) for start in range(0, len(boxes), SOME)]


def _index(boxes: Boxes, shape: torch.Size, device: torch.device) -> Tensor:
    """(n h w,) the places of all pixels of boxes in canvases (canvases, C, H, W), one by one."""
    height, width = shape[2:]
    rows, cols = box_indices(boxes, (height, width))
    starts = (boxes.canvas[:, None] * height + rows) * width
    # Two numbers per row and column are sent; the device expands them to n h w.
    sides = to_device(torch.cat([starts, cols], 1), device)
    starts, cols = torch.split(sides, [rows.shape[1], cols.shape[1]], 1)
    return (starts[:, :, None] + cols[:, None, :]).reshape(-1)


def box_indices(boxes: Boxes, canvas_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the pixel rows (n, h) and columns (n, w) of boxes of one size, wrapped around."""
    h, w = boxes.hw
    rows = (boxes.yxyx[:, 0, None] + torch.arange(h)) % canvas_hw[0]
    cols = (boxes.yxyx[:, 1, None] + torch.arange(w)) % canvas_hw[1]
    return rows, cols

"""A synthetic dataset as plain tensors, the content of an artefact, and its images from them.

Tensors of distilled.safetensors: n items, C channels, h w item, H W canvas, K classes. Those of
stored.safetensors are decoded to the same, without states.

    pixels      (canvases, C, H, W) float32, whitened
    canvas      (n,), rows (n, h), cols (n, w): where the pixels of every item are
    images      (n, C, h, w), in place of these three if items are not cut from the canvases
    labels      (n, K) float32
    items       (n, 5) canvas y0 x0 y1 x1 of every item; cells (m, 6) the same and the class
    class_grid  (rows, cols) class numbers
    data.*, label.*  states of representation and labeler, for users with the plugins
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from distill_core.contracts.gather import box_indices
from distill_core.contracts.geometry import Placement
from distill_core.contracts.synthetic import SyntheticDataset

PREFIXES = {"representation": "data", "labeler": "label"}
SOME = 256  # images that are cut out at once
INDEX_TYPES = (torch.uint8, torch.int16, torch.int32, torch.int64)

CUT = (
    "images = d['pixels'][d['canvas'].long()[:, None, None], :, "
    "d['rows'].long()[:, :, None], d['cols'].long()[:, None, :]].permute(0, 3, 1, 2)"
)
STORED = "images = d['images']"
HOW_TO_LOAD = (
    "from safetensors.torch import load_file; d = load_file('distilled.safetensors'); "
    "{images}; labels = d['labels']. Images are whitened, labels soft. Test images need the same "
    "whitening: distill_core.load(path).transform, or whitening.safetensors by hand."
)


@torch.no_grad()
def to_tensors(synthetic: SyntheticDataset) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a dataset of float32 numbers, as they are stored, as tensors on the CPU.

    Returns:
        The tensors, and for each parameter that is left out because it equals a plain tensor, the
        name of that tensor.
    """
    found = plain_tensors(synthetic)
    same = {}
    plain = dict(found)
    for part, prefix in PREFIXES.items():
        for name, tensor in getattr(synthetic, part).state_dict().items():
            twin = next((other for other in plain if _equal(tensor.cpu(), plain[other])), None)
            if twin is None:
                found[f"{prefix}.{name}"] = tensor.cpu()
            else:
                same[f"{prefix}.{name}"] = twin
    return found, same


@torch.no_grad()
def plain_tensors(synthetic: SyntheticDataset) -> dict[str, Tensor]:
    """Return a whole synthetic dataset as tensors on the CPU, without states of its components."""
    images, labels = (part.detach().cpu().float() for part in synthetic.all())
    found = {
        "pixels": synthetic.representation.canvases().detach().cpu().float(),  # parameters, perhaps
        "labels": labels,
        "class_grid": synthetic.placement.class_grid.int(),
        **_boxes(synthetic.placement),
    }
    tables = _tables(synthetic, tuple(images.shape[-2:]))
    cuts = bool(tables) and _are_cut(images, found | tables)
    return found | (tables if cuts else {"images": images})


def gathered_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return how many bytes `items` makes; none if the images are stored."""
    if "images" in tensors:
        return 0
    pixels, rows, cols = (tensors[name] for name in ("pixels", "rows", "cols"))
    shape = (len(rows), pixels.shape[1], rows.shape[1], cols.shape[1])
    return math.prod(shape) * pixels.element_size()


def items(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the images (n, C, h, w) of packed tensors."""
    if "images" in tensors:
        return tensors["images"]
    canvas, rows, cols = (tensors[name].long() for name in ("canvas", "rows", "cols"))
    cut = tensors["pixels"][canvas[:, None, None], :, rows[:, :, None], cols[:, None, :]]
    return cut.permute(0, 3, 1, 2).contiguous()


def _are_cut(images: Tensor, tensors: Mapping[str, Tensor]) -> bool:
    """Whether `items` of the tensors would be just these images; some at a time."""
    tables = {name: torch.split(tensors[name], SOME) for name in ("canvas", "rows", "cols")}
    every = zip(torch.split(images, SOME), *tables.values(), strict=True)
    return all(
        torch.equal(items({**tensors, **dict(zip(tables, cut, strict=True))}), part)
        for part, *cut in every
    )


def how_to_load(tensors: Mapping[str, Tensor]) -> str:
    """Return the lines of plain code that read packed tensors without distill."""
    return HOW_TO_LOAD.format(images=STORED if "images" in tensors else CUT)


def state_of(tensors: Mapping[str, Tensor], same: Mapping[str, str]) -> dict[str, Tensor]:
    """Return what `SyntheticDataset.load_state_dict` takes, from what `to_tensors` returned."""
    every = {**tensors, **{name: tensors[other] for name, other in same.items()}}
    return {
        f"{part}.{name.removeprefix(prefix + '.')}": tensor
        for part, prefix in PREFIXES.items()
        for name, tensor in every.items()
        if name.startswith(prefix + ".")
    }


def _boxes(placement: Placement) -> dict[str, Tensor]:
    """Where items and cells lie, for pictures."""
    items, cells = placement.layout.items, placement.layout.cells
    classes = placement.cell_class[:, None]
    return {
        "items": torch.cat([items.canvas[:, None], items.yxyx], 1).int(),
        "cells": torch.cat([cells.canvas[:, None], cells.yxyx, classes], 1).int(),
    }


def _tables(synthetic: SyntheticDataset, hw: tuple[int, ...]) -> dict[str, Tensor]:
    """Index tables of all items; empty if boxes have another size than the images."""
    layout = synthetic.placement.layout
    if layout.items.hw != hw:
        return {}
    rows, cols = box_indices(layout.items, layout.canvas_hw)
    return {
        name: _small(table)
        for name, table in (("canvas", layout.items.canvas), ("rows", rows), ("cols", cols))
    }


def _small(table: Tensor) -> Tensor:
    """Return an index table in the smallest integer type that holds it."""
    largest = int(table.max())
    return table.to(next(kind for kind in INDEX_TYPES if largest <= torch.iinfo(kind).max))


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)

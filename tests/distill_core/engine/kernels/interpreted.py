"""Errors of the Triton kernels as Triton's interpreter runs them on the CPU, as JSON.

A program of its own: Triton reads TRITON_INTERPRET when it is imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from distill_core.contracts.network import FlatModel
from distill_core.contracts.streams import seeded
from distill_core.engine.convnet import ConvNetLoss
from distill_core.engine.kernels.blocks import ARITHMETIC, Cotangents, Norm, Values
from distill_core.engine.kernels.fused import agrees
from distill_core.engine.kernels.torch_blocks import TorchBlocks
from distill_core.engine.kernels.torch_functions import PLAIN
from distill_core.engine.kernels.triton_functions import FUSED
from tests.distill_core.engine.test_convnet import drawn, made

# Planes with rests of pooling on no, one or both sides; below, at and above blocks of pixels and of
# channels.
PLANES = [(1, 8, 8, 16), (2, 7, 13, 5), (1, 2, 3, 40), (1, 19, 2, 33), (1, 17, 18, 17)]
NETWORKS = [((3, 8, 8), 9, 2, 1), ((3, 8, 8), 3, 2, 2), ((2, 5, 7), 17, 1, 1)]


def arguments(shape: tuple[int, int, int, int], dtype: torch.dtype) -> dict[str, tuple[Any, ...]]:
    """Of each function; planes lie far from zero, where a careless variance cancels."""
    n, h, w, c = shape
    generator, wide = seeded(shape), ARITHMETIC[dtype]

    def normal(*size: int, of: torch.dtype = dtype) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64).to(of)

    values = Values(30 + normal(n, h, w, c), normal(n, h, w, c))
    norm, tangent = (Norm(normal(c, of=wide), normal(c, of=wide)) for _ in range(2))
    above = Cotangents(*(normal(n, h // 2, w // 2, c) for _ in range(2)))
    logits, tlogits, labels = (normal(n, c, of=wide) for _ in range(3))
    stats, tangent_stats = (
        PLAIN.forward(values.z, norm)[1], PLAIN.tangent_forward(values, norm, tangent)[1],
    )  # fmt: skip
    return {
        "forward": (values.z, norm),
        "backward": (values.z, norm, stats, above.P),
        "tangent_forward": (values, norm, tangent),
        "tangent_backward": (values, norm, tangent, tangent_stats, above),
        "cross_entropy": (logits, labels, 1 / 7),
        "tangent_cross_entropy": (logits, tlogits, labels, 1 / 7),
    }


def functions() -> Iterator[tuple[str, str, float]]:
    """Yield each function's type, name and error against the reference in PyTorch."""
    for dtype in ARITHMETIC:
        for shape in PLANES if dtype == torch.float64 else PLANES[1:2]:
            for name, given in arguments(shape, dtype).items():
                pairs = zip(getattr(FUSED, name)(*given), getattr(PLAIN, name)(*given), strict=True)
                worst = max(_error(found, wanted) for found, wanted in pairs)
                yield str(dtype), f"{name} {shape}", worst


def losses() -> Iterator[tuple[str, str, float]]:
    """Yield errors of a loss and a product with these kernels, against the C ones."""
    for shape, width, depth, growth in NETWORKS:
        net = made(shape, width, depth, torch.float64, growth)
        model, structure = FlatModel(net), net.conv_blocks()
        assert structure is not None
        batch, vector = drawn(net, shape, torch.float64)
        fused = ConvNetLoss(model, structure, blocks=TorchBlocks(torch.float64, FUSED))
        ours = ConvNetLoss(model, structure)
        found, wanted = (
            (*loss.evaluate(model.theta, batch)[:3], *loss.product(model.theta, batch, vector))
            for loss in (fused, ours)
        )
        worst = max(_error(one, other) for one, other in zip(found, wanted, strict=True))
        yield str(torch.float64), f"a loss of {shape}, {width} channels", worst


def _error(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


if __name__ == "__main__":
    tried = [agrees(FUSED, torch.device("cpu"), each) for each in (torch.float32, torch.bfloat16)]
    print(json.dumps({"errors": [*functions(), *losses()], "tried": tried}))

"""Ordinary training by CUDA graphs of whole steps; judging a distilled set does it many times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from distill_core.contracts.network import Backbone
from distill_core.engine.drawn_steps import DrawnSteps
from distill_core.engine.forward import training_loss
from distill_core.engine.graphs.capture import Capture, CudaCapture, Graphs
from distill_core.engine.graphs.choice import fails_in_graphs, no_graphs
from distill_core.engine.graphs.loop import LoopGraphs
from distill_core.engine.graphs.loss import GraphedLoss
from distill_core.engine.optimizers import InnerOptimizer

# Why networks cannot be captured, by everything that decides it: each is tried once.
_TRIED: dict[str, str] = {}


def no_training_graphs(backbone: Backbone, images: Tensor) -> str:
    """Say why training a network on images (n, C, h, w) cannot be captured; empty if it can.

    Tried once for all networks of one structure.
    """
    reason = no_graphs(backbone, images.device)
    if reason:
        return reason
    channels, height, width = images.shape[1:]
    key = f"{backbone!r} {images.shape[1:]} {images.dtype} {images.device}"
    if key not in _TRIED:
        loss = GraphedLoss(training_loss(backbone), Graphs(CudaCapture(images.device)))
        _TRIED[key] = fails_in_graphs(loss, (channels, height, width), there_and_back=False)
    return _TRIED[key]


def train_by_graphs(
    backbone: Backbone,
    drawn: DrawnSteps,
    optimizer: InnerOptimizer,
    rates: Sequence[float],
    *,
    capture: Capture,
    at_steps: Collection[int] = (),
    observe: Callable[[int], None] | None = None,
) -> None:
    """Train a network in place.

    Args:
        backbone: the network, in training mode, without buffers and frozen parameters.
        drawn: what each step trains on.
        optimizer: the optimizer, from its initial state.
        rates: learning rates, one per step.
        capture: captures steps.
        at_steps: numbers of steps after which `observe(step)` is called; the network then holds
            the parameters of that step.
        observe: may put the network into evaluation mode.
    """
    loss = training_loss(backbone)
    loop = LoopGraphs(
        loss, optimizer, capture, drawn, steps=len(drawn.draws), window=0, in_place=True
    )
    loop.begin(loss.model.theta, drawn, warm_up=len(drawn.draws), rates=_exact(rates))
    parameters = dict(backbone.named_parameters())

    def update() -> None:
        with torch.no_grad():
            for name, value in loss.model.views(loop.memory.theta).items():
                parameters[name].copy_(value)

    for step, draw in enumerate(drawn.draws, start=1):
        loop.forward(draw, kept=False)
        if observe is not None and step in at_steps:
            update()
            observe(step)
            backbone.train()
    update()


def _exact(rates: Sequence[float]) -> Tensor:
    return torch.tensor(rates, dtype=torch.float64)

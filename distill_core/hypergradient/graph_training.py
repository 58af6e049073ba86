"""Ordinary training by CUDA graphs of whole steps, as judging a distilled set does many times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from distill_core.contracts import Backbone
from distill_core.hypergradient.graph_choice import fails_in_graphs, no_graphs
from distill_core.hypergradient.graphed_loss import GraphedLoss
from distill_core.hypergradient.graphs import Capture, CudaCapture, Graphs
from distill_core.hypergradient.loop_graphs import LoopGraphs
from distill_core.hypergradient.optimizers import InnerOptimizer
from distill_core.hypergradient.ordinary_training import training_loss
from distill_core.hypergradient.plan import Plan

# Why networks cannot be captured, by all that decides it, so that it is found out once.
_TRIED: dict[str, str] = {}


def no_training_graphs(backbone: Backbone, images: Tensor) -> str:
    """Say why training of a network on images (n, C, h, w) cannot be captured, or nothing.

    Found out by trying, once for all networks that are alike.
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
    plan: Plan,
    optimizer: InnerOptimizer,
    rates: Sequence[float],
    *,
    capture: Capture,
    at_steps: Collection[int] = (),
    observe: Callable[[int], None] | None = None,
) -> None:
    """Train a network in place; it is in training mode, and has neither buffers nor frozen
    parameters.

    Args:
        backbone: the network.
        plan: what each step trains on.
        optimizer: starts afresh.
        rates: learning rates, one for each step.
        capture: captures steps.
        at_steps: numbers of steps after which the network holds the parameters of that step and
            `observe(step)` is called; it may put the network into evaluation mode.
        observe: see there.
    """
    loss = training_loss(backbone)
    loop = LoopGraphs(
        loss, optimizer, capture, plan, steps=len(plan.draws), window=0, in_place=True
    )
    loop.begin(loss.model.theta, plan, warm_up=len(plan.draws), rates=_exact(rates))
    parameters = dict(backbone.named_parameters())

    def update() -> None:
        with torch.no_grad():
            for name, value in loss.model.views(loop.memory.theta).items():
                parameters[name].copy_(value)

    for step, draw in enumerate(plan.draws, start=1):
        loop.forward(draw, kept=False)
        if observe is not None and step in at_steps:
            update()
            observe(step)
            backbone.train()
    update()


def _exact(rates: Sequence[float]) -> Tensor:
    return torch.tensor(rates, dtype=torch.float64)

"""The baseline of `engine.py`: an outer step of RaT-BPTT that keeps the graph of its window.

What published code does, without a library: every parameter update of the window stays in the
autograd graph, the outer loss is one forward pass of the whole real batch, and one backward pass
goes through all of it to pixels and labels. Plain autograd, contiguous (NCHW) as published; the
only thing shared with the engine is `Adam.update`, a formula on tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from distill_core.contracts.geometry import Boxes
from distill_core.contracts.network import FlatModel
from distill_core.contracts.synthetic import Batch, SyntheticDataset
from distill_core.data.augment import Augmentation, Draw
from distill_core.engine.optimizers import InnerOptimizer


def outer_step(
    model: FlatModel,
    optimizer: InnerOptimizer,
    synthetic: SyntheticDataset,
    boxes: Sequence[Boxes],
    draws: Sequence[Draw],
    *,
    real: Batch,
    window: int,
) -> float:
    """Leave the hypergradient in `.grad` of pixels and labels; return the outer loss.

    Args:
        model: the network, with its initial parameters.
        optimizer: the inner optimizer.
        synthetic: what is distilled.
        boxes: the boxes of every inner step.
        draws: the augmentation of every inner step.
        real: augmented real images, and labels as distributions.
        window: how many of the last steps are differentiated.
    """
    theta = _train(model, optimizer, synthetic, list(zip(boxes, draws, strict=True)), window)
    loss = _cross_entropy(model.logits(theta, real.images), real.labels)
    loss.backward()
    return float(loss.detach())


def _train(
    model: FlatModel,
    optimizer: InnerOptimizer,
    synthetic: SyntheticDataset,
    drawn: Sequence[tuple[Boxes, Draw]],
    window: int,
) -> Tensor:
    """Train on what was drawn; the result's graph reaches through the last `window` steps."""
    theta = model.theta.detach().requires_grad_()
    state = optimizer.init(theta)
    first = len(drawn) - window
    for step, (boxes, draw) in enumerate(drawn):
        live = step >= first
        with torch.set_grad_enabled(live):
            made = synthetic.at(boxes)
            batch = Batch(Augmentation.apply(made.images, draw), made.labels)
        with torch.enable_grad():
            loss = _cross_entropy(model.logits(theta, batch.images), batch.labels)
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=live)
        with torch.set_grad_enabled(live):
            theta, state = optimizer.update(theta, gradient, state, optimizer.lr)
        if not live:
            theta.requires_grad_()
    return theta


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -(labels * functional.log_softmax(logits, 1)).sum(1).mean()

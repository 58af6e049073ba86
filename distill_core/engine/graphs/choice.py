"""Find out, once and by trying, whether the steps of a network can be captured in CUDA graphs."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from distill_core.contracts.data import AUGMENTATIONS
from distill_core.contracts.derivatives import InnerLoss
from distill_core.contracts.streams import seeded
from distill_core.contracts.synthetic import Batch
from distill_core.data.augment import Augmentation
from distill_core.engine.drawn_steps import DrawnSteps
from distill_core.engine.graphs.loop import LoopGraphs
from distill_core.engine.graphs.loss import GraphedLoss
from distill_core.engine.optimizers import Adam
from distill_core.system.out_of_memory import is_out_of_memory
from registry import InputError, first_line

# Operations of the augmentation: none, and each by itself.
TRIED: tuple[tuple[str, ...], ...] = ((), *((name,) for name in AUGMENTATIONS))
TOLERANCE = 1e-2  # of a norm: rounding is far below, a wrong graph far above


def no_graphs(backbone: nn.Module, device: torch.device) -> str:
    """Say why steps of a network on a device cannot be captured; empty if no reason is visible.

    A graph serves all networks of one structure, because parameters are arguments. Buffers and
    frozen parameters are not arguments: the graph would use those of the first network for ever.
    """
    if device.type != "cuda":
        return f"there are none on {device.type}"
    if os.environ.get("DISTILL_GRAPHS") == "off":
        return "DISTILL_GRAPHS is off"
    if any(True for _ in backbone.buffers()):
        return "the network has buffers, as batch normalisation does"
    if not all(parameter.requires_grad for parameter in backbone.parameters()):
        return "the network has frozen parameters"
    return ""


def fails_in_graphs(
    loss: GraphedLoss, image_shape: tuple[int, int, int], *, there_and_back: bool = True
) -> str:
    """Capture what a run may capture, and say what is wrong; empty if nothing is.

    A gradient and a product are compared with those without graphs; whole steps are captured with
    every operation of the augmentation.

    Args:
        loss: of a network without an obstacle by `no_graphs`.
        image_shape: C, h, w of its images.
        there_and_back: also go back; False for a network that is only trained.
    """
    theta = loss.model.theta
    images = torch.linspace(-2, 2, 2 * image_shape[0] * image_shape[1] * image_shape[2])
    batch = Batch(
        images.view(2, *image_shape).to(theta),
        theta.new_full((2, loss.model.num_classes), 1 / loss.model.num_classes),
    )
    before = _random_state(theta.device)
    try:
        found, expected = (
            _derivatives(each, theta, batch, there_and_back) for each in (loss, loss.plain)
        )
        wrong = [not _close(one, other) for one, other in zip(found, expected, strict=True)]
        _try_steps(loss, batch, there_and_back)
    except InputError as error:  # there is no second derivative
        return error.what.rstrip(".")
    except RuntimeError as error:
        cause = _first_cause(error)
        if is_out_of_memory(cause):
            raise cause from None
        return f"capturing failed: {first_line(cause).rstrip('.')}"
    if not torch.equal(before, _random_state(theta.device)):
        return "the network draws random numbers"
    return "what they replay differs from what they captured" if any(wrong) else ""


def _derivatives(loss: InnerLoss, theta: Tensor, batch: Batch, product: bool) -> tuple[Tensor, ...]:
    there = loss.evaluate(theta, batch)[:3]
    return (*there, *loss.product(theta, batch, theta)) if product else there


def _try_steps(loss: GraphedLoss, batch: Batch, there_and_back: bool) -> None:
    """Capture and run one step of every kind."""
    generator = seeded(0, "trial of graphs")
    hw = (int(batch.images.shape[2]), int(batch.images.shape[3]))
    draws = [Augmentation(names).draw(2, hw, generator=generator) for names in TRIED]
    drawn = DrawnSteps(batch, [torch.arange(2)] * len(draws), draws)
    window = len(draws) if there_and_back else 0
    loop = LoopGraphs(
        loss.plain, Adam(1e-3), loss.graphs.capture, drawn, steps=len(draws), window=window
    )
    loop.begin(loss.model.theta, drawn, warm_up=len(draws) - window, rates=None)
    for draw in draws:
        loop.forward(draw, kept=there_and_back)
    if there_and_back:
        loop.begin_backward(loss.model.theta)
        for draw in reversed(draws):
            loop.backward(draw)


def _first_cause(error: BaseException) -> BaseException:
    """The error that ended a capture; PyTorch raises another one on top of it."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return error


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() <= TOLERANCE * other.norm() + 1e-6)


def _random_state(device: torch.device) -> Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()

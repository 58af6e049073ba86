"""What algorithms that differentiate an inner loop share: the loop, its outer loss, its cost.

An algorithm makes an `InnerLoop` from its options and decides how long it is, which part of it is
differentiated, and what to do with the gradient.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from distill_core.builtin.algorithms.step_cost import clear_gradients, typical
from distill_core.plugin import (
    Augmentation,
    Batches,
    Estimate,
    InnerLoss,
    InnerOptimizer,
    OuterLoss,
    PeakBytes,
    Streams,
    SyntheticDataset,
    Task,
    Unrolled,
    real_loss,
    unroll,
)


class DrawBatches(Protocol):
    """Draws the batches of an inner loop, as `InnerBatches.draw`."""

    def __call__(self, synthetic: SyntheticDataset, *, steps: int, rng: Streams) -> Batches:
        """Return the batches of `steps` steps."""
        ...


@dataclass(frozen=True)
class InnerLoop:
    """Training on synthetic data, and the loss on real data of what came out of it.

    Attributes:
        task: real data, networks and the engine.
        optimizer: the inner optimizer.
        batches: draws what the inner loop trains on.
        augmentation: of real images.
    """

    task: Task
    optimizer: InnerOptimizer
    batches: DrawBatches
    augmentation: Augmentation

    def fresh(self, rng: Streams) -> InnerLoss:
        """Return the inner loss of a new network."""
        return self.task.engine.loss(self.task.new_backbone(rng["backbone"]))

    def train(
        self,
        synthetic: SyntheticDataset,
        loss: InnerLoss,
        lengths: tuple[int, int],
        rng: Streams,
        rates: Tensor | None = None,
    ) -> Unrolled:
        """Train from the network's initial parameters.

        Args:
            synthetic: what is trained on.
            loss: the network.
            lengths: steps before the window, and steps in it, which are differentiated.
            rng: the run's streams.
            rates: learned learning rates, see `unroll`.
        """
        warm_up, window = lengths
        return unroll(
            loss,
            self.optimizer,
            loss.model.theta,
            self.batches(synthetic, steps=warm_up + window, rng=rng),
            warm_up=warm_up,
            window=window,
            rates=rates,
        )

    @torch.no_grad()
    def gradient_norms(self, synthetic: SyntheticDataset, steps: int, rng: Streams) -> Tensor:
        """Train a new network for some steps; return the norm of each gradient: (steps,).

        Nothing is kept of the training, and nothing can be differentiated.
        """
        loss = self.fresh(rng)
        batches, theta = self.batches(synthetic, steps=steps, rng=rng), loss.model.theta
        state, norms = self.optimizer.init(theta), []
        for step in range(steps):
            gradient = loss.evaluate(theta, batches(step)).gradient
            norms.append(gradient.norm())
            theta, state = self.optimizer.update(theta, gradient, state, self.optimizer.lr)
        return torch.stack(norms)

    def outer_loss(self, loss: InnerLoss, theta: Tensor, index: Tensor, rng: Streams) -> OuterLoss:
        """Mean loss at theta (P,) on the real images `index` (N,), augmented anew."""
        real = self.task.real
        draw = self.augmentation.draw(
            len(index), real.spec.image_shape[1:], generator=rng["augment"]
        )
        return real_loss(loss, theta, real.train, index, draw, chunk=self.task.engine.real_chunk)


class Lengths(NamedTuple):
    """How long inner loops are, in steps.

    Attributes:
        before: mean number of steps before the window.
        window: mean length of the window.
        longest: longest window.
    """

    before: float
    window: float
    longest: int


class _Cost(NamedTuple):
    """Seconds and bytes of one short outer step.

    Attributes:
        seconds: of an inner step, of the outer loss, and of a step of the window going back.
        outer_bytes: peak until the outer loss is known.
        back_bytes: peak from there on.
        kept_bytes: what a step of the window leaves behind, without activations.
        retained_bytes: its activations, where there is room for them.
    """

    seconds: tuple[float, float, float]
    outer_bytes: int
    back_bytes: int
    kept_bytes: int
    retained_bytes: int


def estimate_unrolled(
    loop: InnerLoop, synthetic: SyntheticDataset, lengths: Lengths, *, real_batch: int
) -> Estimate:
    """Run a short outer step, and extrapolate; its memory is counted tensor by tensor.

    Args:
        loop: the inner loop.
        synthetic: what is trained on; no gradient is left in it.
        lengths: of the inner loops of a run.
        real_batch: real images of an outer step.
    """
    engine, size = loop.task.engine, min(real_batch, len(loop.task.real.train))
    chunk = min(engine.real_chunk, size)
    _measure(loop, synthetic, chunk)  # the first run pays for what is set up once
    inner, outer, back = typical(lambda: _measure(loop, synthetic, chunk).seconds)
    with PeakBytes() as memory:
        counted = _measure(loop, synthetic, chunk, memory)
    each = counted.retained_bytes
    fit = min(engine.activation_cache // each, lengths.longest) if each else 0
    if 0 < fit < lengths.window:  # the other steps take longer
        without = replace(loop, task=replace(loop.task, engine=engine.without_cache()))
        computed = typical(lambda: _measure(without, synthetic, chunk).seconds)[2]
        back += (1 - fit / lengths.window) * (computed - back)
    phases = {
        "inner steps": (lengths.before + lengths.window) * inner,
        "outer loss": size / chunk * outer,
        "way back": lengths.window * back,
    }
    told = f"; activations of {fit} of {lengths.longest} window steps are retained" if fit else ""
    # The trial's step was retained; where not all are, another is computed beside all that are.
    beside = fit if fit < lengths.longest else fit - 1
    more = (lengths.longest - 1) * counted.kept_bytes + max(beside, 0) * each
    peak = max(counted.outer_bytes, counted.back_bytes)
    return Estimate(
        seconds=sum(phases.values()),
        phases=phases,
        memory=more + peak,
        measured=f"an inner step, a window of one step and {chunk} real images were run, for "
        f"{lengths.before:g} + {lengths.window:g} steps on average and {size} real images{told}.",
        retained=fit * each,
        trial=peak,
    )


def _measure(
    loop: InnerLoop, synthetic: SyntheticDataset, chunk: int, memory: PeakBytes | None = None
) -> _Cost:
    """Do an outer step with a warm-up of one step, a window of one and `chunk` real images."""
    rng = Streams(0)
    loss = loop.fresh(rng)
    times = [time.perf_counter()]
    trained = loop.train(synthetic, loss, (1, 1), rng)
    float(trained.theta[0])  # waits for the device
    times.append(time.perf_counter())
    index = loop.task.real.train.draw(chunk, generator=rng["real"])
    outer = loop.outer_loss(loss, trained.theta, index, rng)
    times.append(time.perf_counter())
    outer_bytes = memory.mark() if memory else 0
    kept_bytes, retained_bytes = trained.bytes_per_step(), trained.retained_bytes()
    float(trained.backward(outer.cotangent)[0])
    times.append(time.perf_counter())
    clear_gradients(synthetic)
    inner, outer_seconds, back = (b - a for a, b in itertools.pairwise(times))
    return _Cost(
        seconds=(inner / 2, outer_seconds, back),
        outer_bytes=outer_bytes,
        back_bytes=memory.mark() if memory else 0,
        kept_bytes=kept_bytes,
        retained_bytes=retained_bytes,
    )


def balanced_index(labels: Tensor, per_class: int, *, generator: torch.Generator) -> Tensor:
    """Draw `per_class` images of every class without replacement, or all of a smaller class.

    Args:
        labels: (N,) int64 on the CPU, the class of every real image.
        per_class: how many of each.
        generator: the source of randomness, on the CPU.

    Returns:
        (n,) numbers of images in ascending order, on the CPU.
    """
    order = torch.randperm(len(labels), generator=generator)
    shuffled = labels[order]
    drawn = [order[shuffled == label][:per_class] for label in torch.unique(shuffled)]
    return torch.cat(drawn).sort().values

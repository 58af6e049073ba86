"""FRePo: kernel regression on the features of a pool of networks that train along.

Source: Zhou et al. 2022 (arXiv:2206.00719), with soft labels as regression targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from distill_core.builtin.algorithms.outer_groups import learned_groups
from distill_core.builtin.algorithms.regression.kernel_regression import (
    fit_ridge_head,
    margin,
    real_targets,
    squared_error,
    synthetic_targets,
)
from distill_core.builtin.algorithms.regression.limits import check_rows, may_flip
from distill_core.builtin.algorithms.regression.network_pool import NetworkPool, OnlineNetwork
from distill_core.builtin.algorithms.regression.options import (
    OVERLAP_RIDGE,
    PLAIN_RIDGE,
    FrepoOptions,
)
from distill_core.builtin.algorithms.step_cost import Lap, measure_parts
from distill_core.plugin import (
    Adam,
    Algorithm,
    Estimate,
    Recipe,
    Streams,
    SyntheticDataset,
    Task,
    read,
)


class _Outer(NamedTuple):
    """The outer loss, with its graph, the number of images that were told right, a scalar, and
    the ridge that was used."""

    loss: Tensor
    right: Tensor
    ridge: float


class Frepo(Algorithm):
    """Differentiates a regression from the synthetic images' features to those of real images."""

    needs_simplex: ClassVar[bool] = False

    def __init__(self, options: FrepoOptions, *, task: Task) -> None:
        self.options = options
        self.task = task
        self._device = task.real.train.labels.device
        self._may_flip = may_flip(task, asked=options.flip)
        self._pool = NetworkPool(
            task.new_backbone,
            optimizer=Adam(options.online_lr),
            size=options.pool,
            max_age=options.max_updates,
            engine=task.engine,
        )
        self._used: int | None = None  # the member of the last outer step, yet to be trained

    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return Adam, as the published PyTorch code, with a rate for pixels and for labels."""
        options = self.options
        rates = {"data": options.pixel_lr, "labels": options.label_lr or options.pixel_lr}
        return torch.optim.Adam(learned_groups(groups, rates))

    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> Mapping[str, float]:
        """Train the last member on what the last step left, and leave the next gradient.

        The published order is gradient, update of the data, training of the member on the updated
        data. The update is not made here, so the training opens the next step.
        """
        del step
        self._check_size(synthetic)
        self._pool.fill(rng["backbone"])
        if self._used is not None:
            self._train(self._pool.members[self._used], synthetic, rng["draw"])
            self._pool.replace_if_old(self._used, rng["backbone"])
        place = int(torch.randint(self.options.pool, (), generator=rng["pool"]))
        member = self._pool.members[place]
        features, classes = self._real(member, self.options.real_batch, rng["real"])
        outer = self._outer(member, synthetic, features, classes)
        _backward(outer.loss, synthetic)
        self._used = place
        loss, right = read(outer.loss, outer.right)
        return {
            "loss": loss,
            "accuracy": right / len(classes),
            "ridge": outer.ridge,
            "age": member.age,
        }

    def recipe(self) -> Recipe:
        """Return the published training (Adam at 3e-4, 1000 steps, DSA) with cross-entropy.

        Published is the squared error of centred labels, and an average over the weights.
        """
        return Recipe(optimizer="adam", lr=3e-4, batch_size=256, steps=1000, augment="dsa")

    def notes(self) -> Mapping[str, str]:
        """Say what the pool is."""
        return {"pool": str(self._pool)}

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate:
        """Do the parts of an outer step with a network of its own."""
        del rng  # the run's streams stay where they are
        self._check_size(synthetic)
        own = Streams(0)
        size = min(self.options.real_batch, len(self.task.real.train))
        chunk = min(size, self.task.engine.real_chunk)
        member = self._pool.fresh(own["backbone"])
        times, peak = measure_parts(
            lambda lap: self._measure(member, synthetic, chunk, own, lap), synthetic, self._device
        )
        phases = {
            "online update": times[0],
            "real features": size / chunk * times[1],
            "regression and way back": times[2],
        }
        return Estimate(
            seconds=sum(phases.values()),
            phases=phases,
            memory=peak + self._pool.coming_bytes(member),
            measured=f"an online update, the features of {chunk} real images of {size}, and a "
            "regression were run; the memory holds the pool twice.",
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the pool, and which member is yet to be trained."""
        return {"pool": self._pool.state_dict(), "used": self._used}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._pool.load_state_dict(state["pool"])
        self._used = state["used"]

    def _measure(
        self,
        member: OnlineNetwork,
        synthetic: SyntheticDataset,
        chunk: int,
        rng: Streams,
        lap: Lap,
    ) -> None:
        """Do an online update, the features of real images, and the rest."""
        self._train(member, synthetic, rng["draw"])
        lap()
        features, classes = self._real(member, chunk, rng["real"])
        lap()
        _backward(self._outer(member, synthetic, features, classes).loss, synthetic)
        lap()

    @torch.no_grad()
    def _train(
        self, member: OnlineNetwork, synthetic: SyntheticDataset, generator: Generator
    ) -> None:
        """One online update on the synthetic images, without mirrored copies, as published."""
        batch = synthetic.at(synthetic.draw(self.options.online_batch, generator=generator))
        targets = synthetic_targets(batch.labels)
        member.train(batch.images, targets, chunk=self.task.engine.microbatch)

    @torch.no_grad()
    def _real(
        self, member: OnlineNetwork, size: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Features (N, d) and classes (N,) of a real batch; no graph."""
        train = self.task.real.train
        index = train.draw(size, generator=generator)
        parts = torch.split(index, self.task.engine.real_chunk)
        return torch.cat([member.embed(train.take(part)) for part in parts]), train.labels[index]

    def _outer(
        self, member: OnlineNetwork, synthetic: SyntheticDataset, features: Tensor, classes: Tensor
    ) -> _Outer:
        """The squared error of a regression on the synthetic images, on real features."""
        with torch.enable_grad():
            images, labels = synthetic.all()
            targets = synthetic_targets(labels)
            reward = margin(targets, most=1 / targets.shape[1]) if self.options.margin else 0.0
            if self._flips(synthetic):
                images, targets = torch.cat([images, images.flip(3)]), targets.repeat(2, 1)
            known = member.embed(images, chunk=self.task.engine.microbatch)
            head = fit_ridge_head(known, targets, ridge=self._ridge(synthetic))
            predictions = head.predict(features)
            wanted = real_targets(classes, predictions.shape[1])
            loss = squared_error(predictions, wanted) - reward
        right = (predictions.detach().argmax(1) == classes).sum()
        return _Outer(loss, right, head.ridge)

    def _flips(self, synthetic: SyntheticDataset) -> bool:
        """Mirrored copies help up to one image per class and hurt above, as published."""
        if self.options.flip is None:
            return self._may_flip and synthetic.budget().ipc <= 1 + 1e-9
        return self.options.flip

    def _ridge(self, synthetic: SyntheticDataset) -> float:
        """More training images than the stored pixels would make: they share some."""
        if self.options.ridge is not None:
            return self.options.ridge
        whole = synthetic.budget().ipc * synthetic.spec.num_classes
        return OVERLAP_RIDGE if len(synthetic) > whole * (1 + 1e-9) else PLAIN_RIDGE

    def _check_size(self, synthetic: SyntheticDataset) -> None:
        check_rows(
            "frepo", len(synthetic), flips=self._flips(synthetic), most=self.options.max_items
        )


def _backward(loss: Tensor, synthetic: SyntheticDataset) -> None:
    """Leave the gradient in pixels and labels, and none in the network."""
    trained = [parameter for group in synthetic.groups().values() for parameter in group]
    torch.autograd.backward(loss, inputs=trained)

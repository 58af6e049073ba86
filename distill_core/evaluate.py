"""How good a training set is: fresh networks trained on it by a named protocol, mean and spread.

The training set may be the distilled one or a control (`controls.py`); the networks, their seeds
and the protocol are the same for all, so that their difference is the data's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Generator, Tensor, nn

from distill_core.augment import Augmentation
from distill_core.contracts import Backbone
from distill_core.data import Split
from distill_core.ranks import ALONE, Ranks
from distill_core.recipe import Recipe
from distill_core.streams import seeded
from distill_core.synthetic import Batch
from distill_core.training import accuracy, train
from registry import UnknownNameError

CHECKPOINTS = (300, 600, 1000, 2000, 3000)
PROTOCOLS = ("recipe", "podd", "rat", "dc", "mtt", "frepo")


@dataclass(frozen=True)
class Result:
    """Accuracies of networks trained on one training set.

    Attributes:
        accuracies: one for each network, after the last step; fractions.
        checkpoints: the same by training step, for curves; they select nothing.
        recipe: how the networks were trained.
        seconds: wall-clock time.
        notes: what else is to be known (how a control was made, that it came from a cache).
    """

    accuracies: tuple[float, ...]
    checkpoints: dict[int, tuple[float, ...]]
    recipe: Recipe
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (ddof = 1) over the networks; None for a single one."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    def noted(self, *notes: str) -> Result:
        """Return the same result with further notes."""
        return replace(self, notes=self.notes + notes)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {
            "mean": self.mean,
            "std": self.std,
            "accuracies": list(self.accuracies),
            "checkpoints": {str(step): list(values) for step, values in self.checkpoints.items()},
            "recipe": self.recipe.model_dump(mode="json"),
            "seconds": self.seconds,
            "notes": list(self.notes),
        }

    @staticmethod
    def from_dict(state: dict[str, Any]) -> Result:
        """Read what `as_dict` gave."""
        return Result(
            accuracies=tuple(state["accuracies"]),
            checkpoints={int(step): tuple(v) for step, v in state["checkpoints"].items()},
            recipe=Recipe.model_validate(state["recipe"]),
            seconds=state["seconds"],
            notes=tuple(state["notes"]),
        )

    def __str__(self) -> str:
        spread = f" +- {100 * self.std:.2f}" if self.std is not None else ""
        return f"{100 * self.mean:.2f}{spread} %"


def evaluate(
    images: Tensor,
    labels: Tensor,
    *,
    recipe: Recipe,
    split: Split,
    augmentations: tuple[str, ...],
    make_backbone: Callable[[Generator], Backbone],
    nets: int,
    seed: int,
    after_net: Callable[[int, float], None] | None = None,
    ranks: Ranks = ALONE,
) -> Result:
    """Train fresh networks on one training set and measure each on a split of the real data.

    Network k has a random stream of its own that depends on `seed` and k alone, so a longer
    evaluation begins with the networks of a shorter one.

    Args:
        images: (n, C, h, w) training images, on the device.
        labels: (n, K) soft labels, or (n,) int64 classes.
        recipe: how to train; see `protocol`.
        split: what to measure on: the validation split while a run goes on, the test split once.
        augmentations: the operations that the dataset allows (`DataSpec.augmentations`).
        make_backbone: makes a fresh network on the device.
        nets: how many networks.
        seed: seed of all draws.
        after_net: called with k and its accuracy, for progress.
        ranks: share the networks out; all must call this, and all return the same.
    """
    return evaluate_drawn(
        lambda _: Batch(images, labels),
        recipe=recipe,
        split=split,
        augmentations=augmentations,
        make_backbone=make_backbone,
        nets=nets,
        seed=seed,
        after_net=after_net,
        ranks=ranks,
    )


def evaluate_drawn(
    draw: Callable[[Generator], Batch],
    *,
    recipe: Recipe,
    split: Split,
    augmentations: tuple[str, ...],
    make_backbone: Callable[[Generator], Backbone],
    nets: int,
    seed: int,
    after_net: Callable[[int, float], None] | None = None,
    ranks: Ranks = ALONE,
) -> Result:
    """Like `evaluate`, with a training set of its own for every network.

    Args:
        draw: returns the training set of one network; its draws come from a stream apart, so
            that networks start and are trained alike whatever is drawn.
    """
    begin = time.monotonic()
    augmentation = Augmentation.named(recipe.augment, augmentations)
    at_steps = sorted({step for step in CHECKPOINTS if step < recipe.steps} | {recipe.steps})
    found: dict[int, dict[int, float]] = {}
    for k in ranks.share(nets):
        images, labels = draw(seeded(seed, "evaluate data", k))
        generator = seeded(seed, "evaluate", k)
        curve: dict[int, float] = {}
        found[k] = curve
        train(
            make_backbone(generator),
            images,
            labels,
            recipe,
            augmentation=augmentation,
            generator=generator,
            at_steps=at_steps,
            observe=partial(_observe, curve, split),
        )
        if after_net is not None:
            after_net(k, curve[recipe.steps])
    curves = _join(found, ranks, nets)
    if after_net is not None:
        for k in set(range(nets)) - set(found):
            after_net(k, curves[k][recipe.steps])
    return Result(
        accuracies=tuple(curve[recipe.steps] for curve in curves),
        checkpoints={step: tuple(curve[step] for curve in curves) for step in at_steps},
        recipe=recipe,
        seconds=time.monotonic() - begin,
    )


def _observe(curve: dict[int, float], split: Split, step: int, backbone: nn.Module) -> None:
    curve[step] = accuracy(backbone, split)


def _join(found: dict[int, dict[int, float]], ranks: Ranks, nets: int) -> list[dict[int, float]]:
    """Return the accuracies by step of every network, in order, on all ranks."""
    parts = ranks.gather(found)
    whole = {k: curve for part in parts for k, curve in part.items()}
    whole = ranks.broadcast(whole)
    return [whole[k] for k in range(nets)]


def protocol(name: str, recipe: Recipe, *, num_items: int, steps: int | None = None) -> Recipe:
    """Return the training recipe of an evaluation protocol.

    Args:
        name: "recipe": as the distillation algorithm says. "podd", "rat": Adam at the rate of
            the distillation, constant, flip or rotate; 2000 and 3000 steps. "dc": SGD 0.01 with
            momentum 0.9 and weight decay 5e-4, batches of 256, a tenth of the rate from the
            middle on; 300 epochs, or 1000 with DSA where the algorithm augments. "mtt": the same
            for 1000 epochs with DSA, at the rate that was distilled, if by SGD. "frepo": Adam
            3e-4, 1000 steps of at most 500 images, with DSA; its MSE loss and average of
            weights are not ours, which is cross-entropy on the last weights.
        recipe: the algorithm's own recipe.
        num_items: images in the distilled set; protocols in epochs need it.
        steps: takes the place of the protocol's number of steps.

    Raises:
        UnknownNameError: there is no such protocol.

    Source: Shul et al. 2024, Feng et al. 2023, Zhao and Bilen 2021, Cazenavette et al. 2022, Zhou
        et al. 2022, from their published code. Ours keeps the momentum where that of Zhao and
        Bilen makes a new optimizer in the middle.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, known=PROTOCOLS, next="correct --protocol.")
    if name == "podd":
        recipe = _distillation_adam(recipe, steps=2000)
    elif name == "rat":
        recipe = _distillation_adam(recipe, steps=3000)
    elif name == "dc":
        epochs, augment = (300, "none") if recipe.augment == "none" else (1000, "dsa")
        recipe = _matching_sgd(recipe, num_items, lr=0.01, epochs=epochs, augment=augment)
    elif name == "mtt":
        lr = recipe.lr if recipe.optimizer == "sgd" else 0.01
        recipe = _matching_sgd(recipe, num_items, lr=lr, epochs=1000, augment="dsa")
    elif name == "frepo":
        recipe = _distillation_adam(recipe, steps=1000).model_copy(
            update={"lr": 3e-4, "batch_size": 500, "augment": "dsa"}
        )
    return recipe.model_copy(update={"steps": steps}) if steps is not None else recipe


def _distillation_adam(recipe: Recipe, *, steps: int) -> Recipe:
    return recipe.model_copy(
        update={
            "optimizer": "adam",
            "lr": recipe.lr if recipe.optimizer == "adam" else 1e-3,
            "weight_decay": 0.0,
            "schedule": "constant",
            "steps": steps,
            "augment": "flip_rotate",
        }
    )


def _matching_sgd(
    recipe: Recipe, num_items: int, *, lr: float, epochs: int, augment: str
) -> Recipe:
    batch_size = 256
    return recipe.model_copy(
        update={
            "optimizer": "sgd",
            "lr": lr,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "schedule": "step",
            "batch_size": batch_size,
            "steps": epochs * -(-num_items // batch_size),
            "augment": augment,
        }
    )

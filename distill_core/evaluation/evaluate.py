"""How good a training set is: accuracies of fresh networks trained on it by a named protocol.

The training set may be the distilled one or a control (`baselines.py`). Networks, seeds and
protocol are the same for all, so that differences are due to the data.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Generator, Tensor, nn

from distill_core.config.run_config import RunConfig
from distill_core.contracts.data import RealData, Split
from distill_core.contracts.network import Backbone
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.streams import seeded
from distill_core.contracts.synthetic import Batch
from distill_core.data.augment import Augmentation
from distill_core.data.stored_split import StoredSplit
from distill_core.distributed.ranks import SINGLE_PROCESS, Ranks
from distill_core.evaluation.by_class import ByClass
from distill_core.training.train import right_by_class, train

CHECKPOINTS = (300, 600, 1000, 2000, 3000)
SPLITS = ("test", "validation")
AfterNet = Callable[[str, int, float], None]
Draw = Callable[[Generator], Batch]


@dataclass(frozen=True)
class Result:
    """Accuracies of networks trained on one training set.

    Attributes:
        accuracies: one for each network, after the last step; fractions.
        checkpoints: the same by training step, for curves; not used to select anything.
        recipe: how the networks were trained.
        seconds: wall-clock time.
        notes: further facts (how a control was made, that it came from a cache).
        by_class: accuracy by class; None in results of earlier versions.
    """

    accuracies: tuple[float, ...]
    checkpoints: dict[int, tuple[float, ...]]
    recipe: Recipe
    seconds: float
    notes: tuple[str, ...] = ()
    by_class: ByClass | None = None

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
        found: dict[str, Any] = {
            "mean": self.mean,
            "std": self.std,
            "accuracies": list(self.accuracies),
            "checkpoints": {str(step): list(values) for step, values in self.checkpoints.items()},
            "recipe": self.recipe.model_dump(mode="json"),
            "seconds": self.seconds,
            "notes": list(self.notes),
        }
        if self.by_class is not None:
            found |= {"balanced": self.by_class.balanced, "by_class": self.by_class.as_list()}
        return found

    @staticmethod
    def from_dict(state: dict[str, Any]) -> Result:
        """Read what `as_dict` returned."""
        return Result(
            accuracies=tuple(state["accuracies"]),
            checkpoints={int(step): tuple(v) for step, v in state["checkpoints"].items()},
            recipe=Recipe.model_validate(state["recipe"]),
            seconds=state["seconds"],
            notes=tuple(state["notes"]),
            by_class=ByClass.from_list(state["by_class"]) if "by_class" in state else None,
        )

    def __str__(self) -> str:
        spread = f" +- {100 * self.std:.2f}" if self.std is not None else ""
        return f"{100 * self.mean:.2f}{spread} %"


@dataclass(frozen=True)
class Evaluator:
    """Trains fresh networks of one backbone on training sets and measures them on real images.

    Attributes:
        real: the real data, on the device.
        make_backbone: makes a fresh network on the device.
        backbone: name and options of that network, for the keys of caches.
        seed: seed of all draws.
        split: which images results and controls are judged on: "test", or "validation" while
            settings are still being chosen.
        ranks: share the networks; all must call a method, and all return the same.
        after_net: called with the name of the training set, the number of a network and its
            accuracy, for progress.
    """

    real: RealData
    make_backbone: Callable[[Generator], Backbone]
    backbone: Mapping[str, Any]
    seed: int
    split: str = "test"
    ranks: Ranks = SINGLE_PROCESS
    after_net: AfterNet = lambda name, net, accuracy: None

    @property
    def judged_on(self) -> Split:
        """The images of `split`."""
        return self.real.validation if self.split == "validation" else self.real.test

    @staticmethod
    def of(
        config: RunConfig,
        real: RealData,
        make_backbone: Callable[[Generator], Backbone],
        *,
        split: str = "test",
        ranks: Ranks = SINGLE_PROCESS,
        after_net: AfterNet = lambda name, net, accuracy: None,
    ) -> Evaluator:
        """Return the evaluator of a configuration, which names the backbone and the seed."""
        backbone = config.component("backbone")
        return Evaluator(real, make_backbone, backbone, config.seed, split, ranks, after_net)

    def evaluate(
        self,
        data: Batch | Draw | Split,
        recipe: Recipe,
        *,
        nets: int,
        split: Split,
        name: str | None = None,
    ) -> Result:
        """Train networks on one training set and measure each.

        Network k has a random stream of its own that depends on the seed and k alone, so a longer
        evaluation begins with the networks of a shorter one.

        Args:
            data: images (n, C, h, w) on the device, with soft labels (n, K) or int64 classes (n,);
                real images with theirs;
                or a function that draws them for each network. Its draws come from a separate
                stream, so that they do not change how networks start and are trained.
            recipe: how to train; see `protocol`.
            nets: how many networks.
            split: the images to measure on: the validation split during a run, the test split
                once.
            name: of the training set, for `after_net`; None: nothing is told.
        """
        begin = time.monotonic()

        def draw(generator: Generator) -> Batch | Split:
            return data if isinstance(data, Batch | Split) else data(generator)

        augmentation = Augmentation.named(recipe.augment, self.real.spec.augmentations)
        at_steps = sorted({step for step in CHECKPOINTS if step < recipe.steps} | {recipe.steps})
        found: dict[int, dict[int, list[int]]] = {}
        for k in self.ranks.share(nets):
            images, labels = _parts_of(draw(seeded(self.seed, "evaluate data", k)))
            generator = seeded(self.seed, "evaluate", k)
            right: dict[int, list[int]] = {}
            found[k] = right
            train(
                self.make_backbone(generator),
                images,
                labels,
                recipe,
                augmentation=augmentation,
                generator=generator,
                at_steps=at_steps,
                observe=partial(_observe, right, split, self.real.spec.num_classes),
            )
            self._tell(name, k, sum(right[recipe.steps]) / len(split))
        joined = _join(found, self.ranks, nets)
        curves = [
            {step: sum(hits) / len(split) for step, hits in right.items()} for right in joined
        ]
        for k in set(range(nets)) - set(found):
            self._tell(name, k, curves[k][recipe.steps])
        return Result(
            accuracies=tuple(curve[recipe.steps] for curve in curves),
            checkpoints={step: tuple(curve[step] for curve in curves) for step in at_steps},
            recipe=recipe,
            seconds=time.monotonic() - begin,
            by_class=ByClass.of(
                self.real.spec.class_names,
                split.labels,
                [right[recipe.steps] for right in joined],
            ),
        )

    def _tell(self, name: str | None, net: int, accuracy: float) -> None:
        if name is not None:
            self.after_net(name, net, accuracy)


def _parts_of(data: Batch | Split) -> tuple[Tensor | Split, Tensor]:
    """Images and labels; of real images that stay on the disk the split itself."""
    if isinstance(data, Batch):
        return data.images, data.labels
    return (data if isinstance(data, StoredSplit) else data.images), data.labels


def _observe(
    found: dict[int, list[int]], split: Split, num_classes: int, step: int, backbone: nn.Module
) -> None:
    found[step] = right_by_class(backbone, split, num_classes)


def _join(
    found: dict[int, dict[int, list[int]]], ranks: Ranks, nets: int
) -> list[dict[int, list[int]]]:
    """Return what every network got right by step and class, in order, on all ranks."""
    parts = ranks.gather(found)
    whole = {k: right for part in parts for k, right in part.items()}
    whole = ranks.broadcast(whole)
    return [whole[k] for k in range(nets)]

"""The accuracies that DD-Ranking's scores are made of, measured on one result.

Every training set gets the learning rate that is best for it on the validation split, chosen with
one network; then fresh networks are trained with that rate, and their accuracy after the last
step on the test split counts. Nothing is chosen on the test split.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from torch import Generator
from torch.nn import functional

from distill_core.config import RunConfig
from distill_core.contracts import Backbone
from distill_core.controls import FULL_BATCH, full_control, real_batch
from distill_core.data import RealData
from distill_core.evaluate import Result, evaluate_drawn
from distill_core.judge import AfterNet, Candidate
from distill_core.real_budget import real_budget
from distill_core.recipe import Recipe
from distill_core.robust_scores import (
    Score,
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)
from distill_core.synthetic import Batch
from registry import InputError, UnknownNameError

METRICS = ("lrs", "ars")
RATES = (1e-3, 5e-3, 1e-2, 5e-2, 1e-1)  # as DD-Ranking searches
Draw = Callable[[Generator], Batch]


def check_metrics(metrics: Collection[str]) -> None:
    """Refuse unknown scores.

    Raises:
        UnknownNameError: there is no such score.
    """
    for name in metrics:
        if name not in METRICS:
            raise UnknownNameError("metric", name, known=METRICS, next="correct --metrics.")


def check_split(metrics: Collection[str], real: RealData) -> None:
    """Refuse data on which no learning rate can be chosen.

    Raises:
        InputError: the validation split is empty.
    """
    if metrics and not len(real.validation):
        raise InputError(
            "the run has no validation split, and the scores choose learning rates on it.",
            expected="some training images kept for validation; test images choose nothing.",
            next="distill again with -o data.validation=0.1, or leave --metrics out.",
        )


def measure_scores(
    candidate: Candidate,
    real: RealData,
    config: RunConfig,
    make_backbone: Callable[[Generator], Backbone],
    metrics: Collection[str],
    *,
    after_net: AfterNet = lambda what, net, value: None,
) -> dict[str, Score]:
    """Measure scores with `evaluate.nets` networks of one backbone.

    Args:
        candidate: what was distilled.
        real: the real data, on the device; its validation split chooses learning rates.
        config: seed, backbone and `evaluate`.
        make_backbone: makes a fresh network.
        metrics: of `METRICS`.
        after_net: told what is trained, the number of the network and its accuracy.

    Returns:
        "hlr", "ior", "lrs" and "lrs_hard" (IOR with hard labels, too) for "lrs"; "ior_augmented",
        "ior_plain" and "ars" for "ars". HLR and IOR in percent.
    """
    bench = _Bench(candidate, real, config, make_backbone, after_net)
    return (bench.lrs() if "lrs" in metrics else {}) | (bench.ars() if "ars" in metrics else {})


@dataclass(frozen=True)
class _Bench:
    candidate: Candidate
    real: RealData
    config: RunConfig
    make_backbone: Callable[[Generator], Backbone]
    after_net: AfterNet

    def lrs(self) -> dict[str, Score]:
        recipe = self.candidate.training_recipe(self.config)
        soft = self._accuracies("distilled", self._distilled, recipe)
        hard = self._accuracies("distilled, hard labels", self._hard, recipe)
        random = self._accuracies("random", self._random, recipe)
        full = self._full(recipe).mean
        hlr = [hard_label_recovery(full, value) for value in hard]
        ior = [improvement_over_random(*pair) for pair in zip(soft, random, strict=True)]
        ior_hard = [improvement_over_random(*pair) for pair in zip(hard, random, strict=True)]
        return {
            "hlr": _percent(hlr),
            "ior": _percent(ior),
            "lrs": Score(tuple(map(label_robust_score, ior, hlr))),
            "lrs_hard": Score(tuple(map(label_robust_score, ior_hard, hlr))),
        }

    def ars(self) -> dict[str, Score]:
        own = self.candidate.training_recipe(self.config)
        augment = "dsa" if own.augment == "none" else own.augment
        ior = {}
        for name, value in (("augmented", augment), ("plain", "none")):
            recipe = own.model_copy(update={"augment": value})
            distilled = self._accuracies(f"distilled, {name}", self._distilled, recipe)
            random = self._accuracies(f"random, {name}", self._random, recipe)
            pairs = zip(distilled, random, strict=True)
            ior[name] = [improvement_over_random(*pair) for pair in pairs]
        return {
            "ior_augmented": _percent(ior["augmented"]),
            "ior_plain": _percent(ior["plain"]),
            "ars": Score(tuple(map(augmentation_robust_score, ior["augmented"], ior["plain"]))),
        }

    def _distilled(self, generator: Generator) -> Batch:
        del generator
        return self.candidate.batch

    def _hard(self, generator: Generator) -> Batch:
        """The distilled images, each with its largest label alone."""
        del generator
        images, labels = self.candidate.batch
        return Batch(images, functional.one_hot(labels.argmax(1), labels.shape[1]).to(labels))

    def _random(self, generator: Generator) -> Batch:
        budget = real_budget(self.candidate.ipc, self.real.spec.image_shape[1:])
        return real_batch(self.real, budget, generator=generator)

    def _accuracies(self, what: str, draw: Draw, recipe: Recipe) -> tuple[float, ...]:
        return evaluate_drawn(
            draw,
            recipe=self._best_rate(draw, recipe),
            split=self.real.test,
            augmentations=self.real.spec.augmentations,
            make_backbone=self.make_backbone,
            nets=self.config.evaluate.nets,
            seed=self.config.seed,
            after_net=partial(self.after_net, what),
        ).accuracies

    def _full(self, recipe: Recipe) -> Result:
        options, train = self.config.evaluate, Batch(self.real.train.images, self.real.train.labels)
        long = recipe.model_copy(update={"batch_size": FULL_BATCH, "steps": options.full_steps})
        return full_control(
            self.real,
            recipe=recipe.model_copy(update={"lr": self._best_rate(lambda _: train, long).lr}),
            steps=options.full_steps,
            make_backbone=self.make_backbone,
            backbone={"name": self.config.backbone, "options": self.config.options["backbone"]},
            nets=options.full_nets,
            seed=self.config.seed,
            after_net=partial(self.after_net, "full"),
        )

    def _best_rate(self, draw: Draw, recipe: Recipe) -> Recipe:
        """The recipe with the rate of the highest validation accuracy; the lower one if equal."""

        def accuracy(candidate: Recipe) -> float:
            return evaluate_drawn(
                draw,
                recipe=candidate,
                split=self.real.validation,
                augmentations=self.real.spec.augmentations,
                make_backbone=self.make_backbone,
                nets=1,
                seed=self.config.seed,
            ).mean

        # The recipe's own rate competes, since distillation may have learned it.
        rates = sorted({*RATES, recipe.lr})
        return max((recipe.model_copy(update={"lr": rate}) for rate in rates), key=accuracy)


def _percent(values: list[float]) -> Score:
    return Score(tuple(100 * value for value in values))

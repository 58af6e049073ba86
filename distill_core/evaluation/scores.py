"""The accuracies that DD-Ranking's scores are made of, measured on one result.

Every training set gets the learning rate that is best for it on the validation split, chosen with
one network; then fresh networks are trained with that rate, and their accuracy after the last
step on the test split counts. Nothing is chosen on the test split.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Generator
from torch.nn import functional

from distill_core.config.sections import EvaluateOptions
from distill_core.contracts.data import RealData
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import Batch
from distill_core.data.real_budget import real_budget
from distill_core.evaluation.baselines import FULL_BATCH, full_control, random_images
from distill_core.evaluation.evaluate import Draw, Evaluator, Result
from distill_core.evaluation.judge import Candidate
from distill_core.evaluation.robust_scores import (
    Score,
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)
from registry import InputError, UnknownNameError

METRICS = ("lrs", "ars")
RATES = (1e-3, 5e-3, 1e-2, 5e-2, 1e-1)  # as DD-Ranking searches


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
    evaluator: Evaluator,
    options: EvaluateOptions,
    metrics: Collection[str],
) -> dict[str, Score]:
    """Measure scores with `evaluate.nets` networks of one backbone.

    Args:
        candidate: what was distilled.
        evaluator: trains and measures the networks; the validation split of its data chooses
            learning rates. Its `after_net` is told of the networks that count.
        options: the protocol, and how many networks.
        metrics: of `METRICS`.

    Returns:
        "hlr", "ior", "lrs" and "lrs_hard" (IOR with hard labels, too) for "lrs"; "ior_augmented",
        "ior_plain" and "ars" for "ars". HLR and IOR in percent.
    """
    bench = _Bench(candidate, evaluator, options)
    return (bench.lrs() if "lrs" in metrics else {}) | (bench.ars() if "ars" in metrics else {})


@dataclass(frozen=True)
class _Bench:
    candidate: Candidate
    evaluator: Evaluator
    options: EvaluateOptions

    def lrs(self) -> dict[str, Score]:
        recipe = self.candidate.training_recipe(self.options)
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
        own = self.candidate.training_recipe(self.options)
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

    @property
    def _distilled(self) -> Batch:
        return self.candidate.batch

    @property
    def _hard(self) -> Batch:
        """The distilled images, each with its largest label alone."""
        images, labels = self.candidate.batch
        return Batch(images, functional.one_hot(labels.argmax(1), labels.shape[1]).to(labels))

    def _random(self, generator: Generator) -> Batch:
        real = self.evaluator.real
        budget = real_budget(self.candidate.ipc, real.spec.image_shape[1:])
        return random_images(real, budget, generator=generator)

    def _accuracies(self, name: str, data: Batch | Draw, recipe: Recipe) -> tuple[float, ...]:
        test, nets = self.evaluator.real.test, self.options.nets
        recipe = self._best_rate(data, recipe)
        return self.evaluator.evaluate(data, recipe, nets=nets, split=test, name=name).accuracies

    def _full(self, recipe: Recipe) -> Result:
        options, train = self.options, self.evaluator.real.train
        long = recipe.model_copy(update={"batch_size": FULL_BATCH, "steps": options.full_steps})
        rate = self._best_rate(Batch(train.images, train.labels), long).lr
        recipe = recipe.model_copy(update={"lr": rate})
        return full_control(
            self.evaluator, recipe, steps=options.full_steps, nets=options.full_nets
        )

    def _best_rate(self, data: Batch | Draw, recipe: Recipe) -> Recipe:
        """The recipe with the rate of the highest validation accuracy; the lower one if equal."""
        validation = self.evaluator.real.validation

        def accuracy(candidate: Recipe) -> float:
            return self.evaluator.evaluate(data, candidate, nets=1, split=validation).mean

        # The recipe's own rate competes, since distillation may have learned it.
        rates = sorted({*RATES, recipe.lr})
        return max((recipe.model_copy(update={"lr": rate}) for rate in rates), key=accuracy)


def _percent(values: list[float]) -> Score:
    return Score(tuple(100 * value for value in values))

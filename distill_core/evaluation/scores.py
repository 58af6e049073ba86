"""DD-Ranking's scores: what a distilled set gives beyond its labels and augmentation.

Every training set gets its own best learning rate, chosen with one network on the validation
split. Then fresh networks are trained with that rate, and their test accuracy after the last step
counts. Nothing is chosen on the test split. Accuracies are fractions from
0 to 1.

Source: DD-Ranking (Li et al. 2025). Its released code (0.2.0) puts percentages into the exponential
map and takes the best accuracy over learning rates and epochs on the test set; see
docs/guide/evaluate.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch import Generator
from torch.nn import functional

from distill_core.config.sections import EvaluateOptions
from distill_core.contracts.data import RealData, Split
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import Batch
from distill_core.data.real_budget import real_budget
from distill_core.evaluation.baselines import FULL_BATCH, full_control, random_images
from distill_core.evaluation.evaluate import Draw, Evaluator, Result
from distill_core.evaluation.judge import Candidate
from registry import InputError, UnknownNameError

METRICS = ("lrs", "ars")
RATES = (1e-3, 5e-3, 1e-2, 5e-2, 1e-1)  # as DD-Ranking searches
WEIGHT = 0.5  # w of LRS and gamma of ARS


@dataclass(frozen=True)
class Score:
    """A score for each network, and their mean and spread.

    Attributes:
        values: one for each network.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the networks."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation (ddof = 1); None for a single network."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {"mean": self.mean, "std": self.std, "values": list(self.values)}

    def __str__(self) -> str:
        spread = f" +- {self.std:.2f}" if self.std is not None else ""
        return f"{self.mean:.2f}{spread}"


def hard_label_recovery(real_hard: float, distilled_hard: float) -> float:
    """HLR: the loss against all real images, both with hard labels; lower is better."""
    return real_hard - distilled_hard


def improvement_over_random(distilled: float, random: float) -> float:
    """IOR: the gain over random real images of the same budget; higher is better."""
    return distilled - random


def scale(alpha: float) -> float:
    """Map -1 to 0 and 1 to 100: 100 (e^alpha - e^-1) / (e - e^-1)."""
    lowest = math.exp(-1)
    return 100 * (math.exp(alpha) - lowest) / (math.e - lowest)


def label_robust_score(ior: float, hlr: float, *, weight: float = WEIGHT) -> float:
    """LRS: `scale` of w IOR - (1 - w) HLR; 0 to 100.

    >>> label_robust_score(1.0, -1.0)
    100.0
    """
    return scale(weight * ior - (1 - weight) * hlr)


def augmentation_robust_score(augmented: float, plain: float, *, weight: float = WEIGHT) -> float:
    """ARS: `scale` of the improvements over random, trained with and without augmentation.

    Args:
        augmented: IOR with both trained with augmentation.
        plain: IOR with both trained without.
        weight: gamma.
    """
    return scale(weight * augmented + (1 - weight) * plain)


def check_metrics(metrics: Collection[str]) -> None:
    """Refuse unknown scores.

    Raises:
        UnknownNameError: a score is unknown.
    """
    for name in metrics:
        if name not in METRICS:
            raise UnknownNameError("metric", name, known=METRICS, next="correct --metrics.")


def check_split(real: RealData, metrics: Collection[str], split: str = "test") -> None:
    """Refuse data without images to choose a learning rate on, or to judge on.

    Raises:
        InputError: the validation split is empty.
    """
    if len(real.validation) or not (metrics or split == "validation"):
        return
    need = "the scores choose learning rates on it" if metrics else "was to be judged on it"
    raise InputError(
        f"the run has no validation split, and {need}.",
        expected="some training images kept for validation; test images choose nothing.",
        next="distill again with -o data.validation=0.1, or leave "
        f"{'--metrics' if metrics else '--split'} out.",
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
            learning rates. Its `after_net` is called for the networks that count.
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
        split, nets = self.evaluator.judged_on, self.options.nets
        recipe = self._best_rate(data, recipe)
        return self.evaluator.evaluate(data, recipe, nets=nets, split=split, name=name).accuracies

    def _full(self, recipe: Recipe) -> Result:
        options, train = self.options, self.evaluator.real.train
        long = recipe.model_copy(update={"batch_size": FULL_BATCH, "steps": options.full_steps})
        rate = self._best_rate(train, long).lr
        recipe = recipe.model_copy(update={"lr": rate})
        return full_control(
            self.evaluator, recipe, steps=options.full_steps, nets=options.full_nets
        )

    def _best_rate(self, data: Batch | Draw | Split, recipe: Recipe) -> Recipe:
        """Return the recipe with the best rate on the validation split; of equal ones the lower."""
        validation = self.evaluator.real.validation

        def accuracy(candidate: Recipe) -> float:
            return self.evaluator.evaluate(data, candidate, nets=1, split=validation).mean

        # The recipe's own rate competes, since distillation may have learned it.
        rates = sorted({*RATES, recipe.lr})
        return max((recipe.model_copy(update={"lr": rate}) for rate in rates), key=accuracy)


def _percent(values: list[float]) -> Score:
    return Score(tuple(100 * value for value in values))

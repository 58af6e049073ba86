"""The verdict: fresh networks on a training set, beside its two controls.

The test split is read here and nowhere else; while a run goes on only the validation split is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator

from distill_core.assemble import Assembly
from distill_core.config import RunConfig
from distill_core.contracts import Backbone
from distill_core.controls import full_control, random_control
from distill_core.data import RealData
from distill_core.evaluate import Result, evaluate, protocol
from distill_core.ranks import ALONE, Ranks
from distill_core.recipe import Recipe
from distill_core.synthetic import Batch
from registry import InputError

NAMES = {
    "distilled": "distilled",
    "random": "random real images",
    "full": "full training set",
}
AfterNet = Callable[[str, int, float], None]


@dataclass(frozen=True)
class Candidate:
    """A training set that is to be judged.

    Attributes:
        batch: whitened images and labels, on the device.
        recipe: how the algorithm means networks to be trained on it.
        ipc: pixels that it stores, in images per class.
        step: outer steps behind it.
    """

    batch: Batch
    recipe: Recipe
    ipc: float
    step: int

    @staticmethod
    @torch.no_grad()
    def of(assembly: Assembly, *, step: int = 0) -> Candidate:
        """Take what an assembly holds now."""
        images, labels = assembly.synthetic.all()
        return Candidate(
            batch=Batch(images.detach(), labels.detach()),
            recipe=assembly.algorithm.recipe(),
            ipc=assembly.synthetic.budget().ipc,
            step=step,
        )

    def training_recipe(self, config: RunConfig) -> Recipe:
        """Return how networks are trained on it, by the protocol of a configuration."""
        options = config.evaluate
        return protocol(
            options.protocol,
            self.recipe,
            num_items=len(self.batch.images),
            steps=options.steps,
        )


def judge(
    candidate: Candidate,
    real: RealData,
    config: RunConfig,
    make_backbone: Callable[[Generator], Backbone],
    *,
    after_net: AfterNet = lambda what, net, value: None,
    ranks: Ranks = ALONE,
) -> dict[str, Result]:
    """Judge a training set and its two controls with one backbone, on the test split.

    Args:
        candidate: what was distilled.
        real: the real data, on the device.
        config: seed, backbone's name and options, and `evaluate`.
        make_backbone: makes a fresh network of that backbone.
        after_net: told the column, the number of the network and its accuracy.
        ranks: share the networks out; all must call this, and all return the same.
    """
    options = config.evaluate
    recipe = candidate.training_recipe(config)
    results = {
        "distilled": evaluate(
            *candidate.batch,
            recipe=recipe,
            split=real.test,
            augmentations=real.spec.augmentations,
            make_backbone=make_backbone,
            nets=options.nets,
            seed=config.seed,
            after_net=partial(after_net, "distilled"),
            ranks=ranks,
        )
    }
    if options.controls:
        results |= _controls(
            real,
            config,
            make_backbone,
            recipe=recipe,
            ipc=candidate.ipc,
            after_net=after_net,
            ranks=ranks,
        )
    return results


def _controls(
    real: RealData,
    config: RunConfig,
    make_backbone: Callable[[Generator], Backbone],
    *,
    recipe: Recipe,
    ipc: float,
    after_net: AfterNet = lambda what, net, value: None,
    ranks: Ranks = ALONE,
) -> dict[str, Result]:
    """Judge random real images of the same pixel budget, and the full training set."""
    options = config.evaluate
    return {
        "random": random_control(
            real,
            ipc=ipc,
            recipe=recipe,
            make_backbone=make_backbone,
            nets=options.nets,
            seed=config.seed,
            after_net=partial(after_net, "random"),
            ranks=ranks,
        ),
        "full": full_control(
            real,
            recipe=recipe,
            steps=options.full_steps,
            make_backbone=make_backbone,
            backbone={"name": config.backbone, "options": config.options["backbone"]},
            nets=options.full_nets,
            seed=config.seed,
            after_net=partial(after_net, "full"),
            ranks=ranks,
        ),
    }


def validation_accuracies(assembly: Assembly, ranks: Ranks = ALONE) -> tuple[float, ...]:
    """Train a few networks on the current state; their accuracies on the validation split."""
    candidate = Candidate.of(assembly)
    config = assembly.config
    return evaluate(
        *candidate.batch,
        recipe=candidate.training_recipe(config),
        split=assembly.real.validation,
        augmentations=assembly.real.spec.augmentations,
        make_backbone=assembly.make_backbone,
        nets=config.evaluate.every_nets,
        seed=config.seed,
        ranks=ranks,
    ).accuracies


def check_validation(assembly: Assembly) -> None:
    """Refuse evaluations while the run goes on where there is nothing to evaluate on.

    Raises:
        InputError: `evaluate.every` is set but the validation split is empty, as that of a very
            small dataset may be.
    """
    if assembly.config.evaluate.every and not len(assembly.real.validation):
        raise InputError(
            "evaluate.every asks for validation accuracies, but the validation split is empty.",
            expected="some training images kept for validation; test images select nothing.",
            next="pass a larger -o data.validation, or -o evaluate.every=0.",
        )


def table(results: Mapping[str, Result]) -> str:
    """Write results for people: accuracy on the test set, networks, and notes."""
    lines = ["accuracy on the test set"]
    for name, result in results.items():
        count = len(result.accuracies)
        nets = f"{count} network{'s' if count > 1 else ''}"
        notes = "; ".join((nets, *result.notes))
        lines.append(f"  {NAMES[name]:<19} {result!s:>16}   ({notes})")
    return "\n".join(lines)

"""The verdict on a run: fresh networks on the result, beside its two controls, in one table.

The test split is read here and nowhere else; while a run goes on only the validation split is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Generator

from distill_core.assemble import Assembly
from distill_core.contracts import Backbone
from distill_core.controls import full_control, random_control
from distill_core.evaluate import Result, evaluate, protocol
from distill_core.recipe import Recipe
from distill_core.synthetic import Batch
from registry import InputError

NAMES = {
    "distilled": "distilled",
    "random": "random real images",
    "full": "full training set",
}


def training_recipe(assembly: Assembly) -> Recipe:
    """Return how networks are trained on the result, by the run's protocol."""
    options = assembly.config.evaluate
    return protocol(
        options.protocol,
        assembly.algorithm.recipe(),
        num_items=len(assembly.synthetic),
        steps=options.steps,
    )


@torch.no_grad()
def training_set(assembly: Assembly) -> Batch:
    """Return the distilled images and labels, detached."""
    batch = assembly.synthetic.all()
    return Batch(batch.images.detach(), batch.labels.detach())


def validation_accuracy(assembly: Assembly) -> float:
    """Train a few networks on the current state; mean accuracy on the validation split.

    Raises:
        InputError: the run keeps no validation split.
    """
    check_validation(assembly)
    images, labels = training_set(assembly)
    return evaluate(
        images,
        labels,
        recipe=training_recipe(assembly),
        split=assembly.real.validation,
        augmentations=assembly.real.spec.augmentations,
        make_backbone=assembly.make_backbone,
        nets=assembly.config.evaluate.every_nets,
        seed=assembly.config.seed,
    ).mean


def check_validation(assembly: Assembly) -> None:
    """Refuse evaluations while the run goes on where there is nothing to evaluate on.

    Raises:
        InputError: `evaluate.every` is set but the validation split is empty.
    """
    if assembly.config.evaluate.every and not len(assembly.real.validation):
        raise InputError(
            "evaluate.every asks for validation accuracies, but the validation split is empty.",
            expected="some training images kept for validation; test images select nothing.",
            next="pass -o data.validation=0.1, or -o evaluate.every=0.",
        )
    options = assembly.config.evaluate
    if options.select == "best" and not options.every:
        raise InputError(
            "evaluate.select=best needs validation accuracies, but evaluate.every is 0.",
            expected="a number of outer steps between evaluations.",
            next="pass -o evaluate.every=50, for example.",
        )


def judge(
    assembly: Assembly,
    *,
    say: Callable[[str], None] = lambda text: None,
    make_backbone: Callable[[Generator], Backbone] | None = None,
) -> dict[str, Result]:
    """Train fresh networks on the result and on the controls; measure them on the test split.

    Args:
        assembly: the parts of a finished run.
        say: told what is being trained.
        make_backbone: another network than the run's.

    Returns:
        Results by name: "distilled", and with `evaluate.controls` also "random" and "full".
    """
    config, real = assembly.config, assembly.real
    options = config.evaluate
    recipe = training_recipe(assembly)
    maker = make_backbone or assembly.make_backbone
    images, labels = training_set(assembly)
    say(f"training {options.nets} fresh networks on the result, {recipe.steps} steps each")
    results = {
        "distilled": evaluate(
            images,
            labels,
            recipe=recipe,
            split=real.test,
            augmentations=real.spec.augmentations,
            make_backbone=maker,
            nets=options.nets,
            seed=config.seed,
        )
    }
    if not options.controls:
        return results
    say("training as many on random real images of the same pixel budget")
    results["random"] = random_control(
        real,
        ipc=assembly.synthetic.budget().ipc,
        recipe=recipe,
        make_backbone=maker,
        nets=options.nets,
        seed=config.seed,
    )
    say(f"training {options.full_nets} on the full training set (kept in the cache)")
    results["full"] = full_control(
        real,
        recipe=recipe,
        steps=options.full_steps,
        make_backbone=maker,
        backbone={"name": config.backbone, "options": config.options["backbone"]},
        nets=options.full_nets,
        seed=config.seed,
    )
    return results


def table(results: Mapping[str, Result]) -> str:
    """Write results for people: accuracy on the test set, networks, and notes."""
    lines = ["accuracy on the test set"]
    for name, result in results.items():
        count = len(result.accuracies)
        nets = f"{count} network{'s' if count > 1 else ''}"
        notes = "; ".join((nets, *result.notes))
        lines.append(f"  {NAMES.get(name, name):<19} {result!s:>16}   ({notes})")
    return "\n".join(lines)

"""The verdict: fresh networks trained on a result and on its controls.

Only this reads the test split; during a run only the validation split is used, and `distill
evaluate --split validation` judges on it, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distill_core.config.sections import EvaluateOptions
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import Batch
from distill_core.evaluation.baselines import bytes_control, full_control, random_control
from distill_core.evaluation.evaluate import Evaluator, Result
from distill_core.evaluation.protocols import protocol
from distill_core.system.units import counted

NAMES = {
    "distilled": "distilled",
    "random": "random real images",
    "random_bytes": "real, equal bytes",
    "full": "full training set",
}


@dataclass(frozen=True)
class Candidate:
    """A training set to judge.

    Attributes:
        batch: whitened images and labels, on the device.
        recipe: how the algorithm trains networks on it.
        ipc: pixels that it stores, in images per class.
        step: outer steps done.
        bytes: all that it stores, where it is compared with real images of as many bytes, too;
            None where it is not.
    """

    batch: Batch
    recipe: Recipe
    ipc: float
    step: int
    bytes: int | None = None

    def training_recipe(self, options: EvaluateOptions) -> Recipe:
        """Return how networks are trained on it, by the protocol that the options name."""
        return protocol(options, self.recipe, num_items=len(self.batch.images))


def judge(
    candidate: Candidate, evaluator: Evaluator, options: EvaluateOptions
) -> dict[str, Result]:
    """Judge a training set and its controls with one backbone, on the evaluator's split.

    Args:
        candidate: what was distilled.
        evaluator: trains and measures the networks.
        options: how many networks, by which protocol, and whether the controls are judged, too.
    """
    recipe, nets = candidate.training_recipe(options), options.nets
    results = {
        "distilled": evaluator.evaluate(
            candidate.batch, recipe, nets=nets, split=evaluator.judged_on, name="distilled"
        )
    }
    if options.controls:
        results["random"] = random_control(evaluator, recipe, ipc=candidate.ipc, nets=nets)
        if candidate.bytes is not None:
            results["random_bytes"] = bytes_control(
                evaluator, recipe, limit=candidate.bytes, nets=nets
            )
        results["full"] = full_control(
            evaluator, recipe, steps=options.full_steps, nets=options.full_nets
        )
    return results


def balance_note(result: Result) -> tuple[str, ...]:
    """Return the balanced accuracy as text where it is not the plain one, by far."""
    found = result.by_class
    if found is None or not found.is_unbalanced:
        return ()
    return (f"balanced {100 * found.balanced:.2f} %",)


def table(results: Mapping[str, Result]) -> str:
    """Return results as text: accuracy on the test set, networks and notes."""
    lines = ["accuracy on the test set"]
    for name, result in results.items():
        nets = counted(len(result.accuracies), "network")
        notes = "; ".join((nets, *balance_note(result), *result.notes))
        lines.append(f"  {NAMES[name]:<19} {result!s:>16}   ({notes})")
    return "\n".join(lines)

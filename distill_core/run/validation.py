"""Validation during a run: fresh networks trained on its current state."""

from __future__ import annotations

from math import prod

import torch

from distill_core.artefact.count_storage import storage_of
from distill_core.artefact.storage import Storage
from distill_core.config.run_config import RunConfig
from distill_core.contracts.synthetic import Batch
from distill_core.distributed.ranks import SINGLE_PROCESS, Ranks
from distill_core.evaluation.evaluate import AfterNet, Evaluator
from distill_core.evaluation.judge import Candidate
from distill_core.run.assemble import Assembly
from registry import InputError


@torch.no_grad()
def candidate_of(assembly: Assembly, *, step: int = 0) -> Candidate:
    """Return the current state of an assembly as a training set to judge."""
    synthetic, layout = assembly.synthetic, assembly.placement.layout
    images, labels = synthetic.all()
    storage = storage_of(synthetic, assembly.real.whitening)
    pixels = layout.num_canvases * synthetic.spec.image_shape[0] * prod(layout.canvas_hw)
    return Candidate(
        batch=Batch(images.detach(), labels.detach()),
        recipe=assembly.algorithm.recipe(),
        ipc=synthetic.budget().ipc,
        step=step,
        bytes=compared_bytes(assembly.config, storage, is_pixels=storage.is_pixels(pixels)),
    )


def compared_bytes(config: RunConfig, storage: Storage, *, is_pixels: bool) -> int | None:
    """Return the bytes that real images of a control of their own may take; None: no such control.

    Pixels in float32 are compared by pixels alone, unless their budget was given in bytes.

    Args:
        config: of the run.
        storage: what its result takes.
        is_pixels: the result is stored as float32 pixels.
    """
    return storage.bytes if config.budget_bytes is not None or not is_pixels else None


def evaluator_of(
    assembly: Assembly,
    *,
    ranks: Ranks = SINGLE_PROCESS,
    after_net: AfterNet = lambda name, net, accuracy: None,
) -> Evaluator:
    """Return what trains fresh networks of a run's backbone and measures them on its data."""
    return Evaluator.of(
        assembly.config, assembly.real, assembly.make_backbone, ranks=ranks, after_net=after_net
    )


def validation_accuracies(assembly: Assembly, ranks: Ranks = SINGLE_PROCESS) -> tuple[float, ...]:
    """Train a few networks on the current state; return their validation accuracies."""
    candidate, options = candidate_of(assembly), assembly.config.evaluate
    evaluator, recipe = evaluator_of(assembly, ranks=ranks), candidate.training_recipe(options)
    result = evaluator.evaluate(
        candidate.batch, recipe, nets=options.every_nets, split=assembly.real.validation
    )
    return result.accuracies


def check_validation(assembly: Assembly) -> None:
    """Refuse validation during the run if the validation split is empty.

    Raises:
        InputError: `evaluate.every` is set but the validation split is empty, as may happen with
            a very small dataset.
    """
    if assembly.config.evaluate.every and not len(assembly.real.validation):
        raise InputError(
            "evaluate.every asks for validation accuracies, but the validation split is empty.",
            expected="some training images kept for validation; test images select nothing.",
            next="pass a larger -o data.validation, or -o evaluate.every=0.",
        )

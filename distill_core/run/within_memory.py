"""What fits in memory: the budget asked for, and an engine within `--max-memory`."""

from __future__ import annotations

import math
import os
from dataclasses import replace

from distill_core.artefact.storage import FLOAT
from distill_core.artefact.stored_types import bytes_of
from distill_core.config.run_config import RunConfig
from distill_core.contracts.algorithm import Algorithm, Estimate, Task
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Layout
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.engine.engine import Engine
from distill_core.engine.memory_limit import ACTIVATION_CACHES, stay_within
from distill_core.engine.memory_trial import MemoryTrial
from distill_core.run.divergence import EARLIER
from distill_core.run.plan import Plan
from distill_core.system.arithmetic import inner_precision
from registry import InputError

MOMENTS = 2  # of Adam, of each stored number
COPIES = 2 + MOMENTS  # of each stored number: itself, its gradient, and these
DECODED = 3  # of each training image: decoded, cut out of its canvas, and its gradient


def check_budget_fits(plan: Plan, spec: DataSpec) -> None:
    """Refuse a budget that no run on this machine can hold, before anything is allocated.

    Raises:
        InputError: its float32 numbers, gradient and moments are more than the machine's memory.
    """
    config = plan.config
    if config.budget_bytes is not None:
        asked = f"--budget-bytes {config.budget_bytes}"
        # As if all were for images: how much labels in fewer bits take, is not known yet.
        each = bytes_of(plan.stored("representation").stored)
        needed = COPIES * FLOAT * config.budget_bytes / each
    elif config.ipc is not None:
        numbers = config.ipc * spec.num_classes * math.prod(spec.image_shape)
        asked, needed = f"--ipc {config.ipc:g}", COPIES * FLOAT * numbers
    else:
        return
    there = _machine_memory()
    if needed > there:
        raise InputError(
            f"{asked} needs {needed / 1e9:.3g} GB for the synthetic images, their gradient "
            f"and the moments of Adam; this machine has {there / 1e9:.3g} GB.",
            expected="a small training set: 0.1 to 100 images per class.",
            next=f"lower {asked.split()[0]}.",
        )


def check_images_fit(layout: Layout, spec: DataSpec) -> None:
    """Refuse more training images than this machine can hold, before any is decoded.

    A decoder makes many large images of few numbers, so that its budget says nothing of them.

    Raises:
        InputError: decoded, cut out and with their gradient they are more than the memory.
    """
    size = FLOAT * len(layout.items) * math.prod(spec.image_shape)
    if (needed := DECODED * size) > (there := _machine_memory()):
        shape = "x".join(map(str, spec.image_shape))
        raise InputError(
            f"{len(layout.items):,} training images of {shape} numbers need {needed / 1e9:.3g} GB, "
            f"decoded and with their gradient; this machine has {there / 1e9:.3g} GB.",
            expected="as many training images as memory holds, all at once.",
            next="lower --ipc or --budget-bytes, or give each image more numbers or pixels: "
            "`distill show representation NAME` has the options.",
        )


def _machine_memory() -> int:
    """Return the bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def kept_between_steps(config: RunConfig, synthetic: SyntheticDataset, *, averages: bool) -> int:
    """Return the bytes that a run keeps from one outer step to the next beside what it distills.

    They are the moments of the outer optimizer (as of Adam), the moving average, the best state,
    and the earlier states that a run which diverges goes back to, each with all of these.

    Args:
        config: of the run.
        synthetic: what it distills.
        averages: whether there is a moving average.
    """
    beside = MOMENTS + averages + (config.evaluate.select == "best")
    earlier = EARLIER * (1 + beside) if config.on_divergence == "halve-lr" else 0
    size: int = sum(tensor.nbytes for tensor in synthetic.state_dict().values())
    return size * (beside + earlier)


def within_memory(
    plan: Plan, task: Task, engine: Engine, synthetic: SyntheticDataset, *, averages: bool
) -> Engine:
    """Choose how many images are processed at a time, by short trial steps.

    Args:
        plan: of the run.
        task: of its algorithm.
        engine: as it was chosen.
        synthetic: what the run distills.
        averages: whether there is a moving average.
    """
    kept = kept_between_steps(plan.config, synthetic, averages=averages)
    trial = MemoryTrial(plan.device, kept)

    def predict(tried: Engine) -> Estimate | None:
        trial_task = replace(task, engine=tried.recapturing())
        algorithm: Algorithm = plan.make("algorithm", task=trial_task)
        with inner_precision(plan.config):
            return trial.run(lambda: algorithm.estimate(synthetic, rng=Streams(plan.config.seed)))

    options = plan.config.engine
    asked = (engine.activation_cache,)
    caches = ACTIVATION_CACHES if options.activation_cache == "auto" else asked
    return stay_within(
        engine,
        options.max_memory or "",
        in_use=trial.in_use,
        predict=predict,
        largest=len(synthetic) if engine.splits else None,
        caches=() if engine.graphs else caches,
    )

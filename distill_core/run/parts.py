"""The parts of a run that are made of a plan, real images or noise, and a class grid."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from distill_core.artefact.count_storage import storage_of
from distill_core.config.advice import lowering
from distill_core.contracts.algorithm import Algorithm, Task
from distill_core.contracts.components import Representation
from distill_core.contracts.data import RealData
from distill_core.contracts.synthetic import SyntheticDataset, check_budget
from distill_core.engine.engine import Engine
from distill_core.run.batches import check_batches
from distill_core.run.checks import check_traits
from distill_core.run.plan import Plan
from distill_core.run.sizing import check_bytes, ipc_of
from distill_core.run.within_memory import check_budget_fits, check_images_fit
from distill_core.system.cache import cache_dir
from distill_core.system.out_of_memory import memory_for
from distill_core.training.expert_cache import Experts


@dataclass(frozen=True)
class Parts:
    """What is made of a representation, real data and a class grid."""

    synthetic: SyntheticDataset
    task: Task
    engine: Engine
    algorithm: Algorithm


def budget_of(plan: Plan, real: RealData) -> float | None:
    """Return the budget in images per class, if the machine can hold it; None: none is given.

    Raises:
        ExplainedError: it cannot, or the budget is too small.
    """
    check_budget_fits(plan, real.spec)
    return ipc_of(plan, real.spec)


def make_representation(plan: Plan, real: RealData) -> Representation:
    """Make the representation, if the machine can hold its budget.

    Raises:
        ExplainedError: it cannot, or the representation refuses.
    """
    return plan.representation(real.spec, budget_of(plan, real))


def make_parts(
    plan: Plan, real: RealData, representation: Representation, class_grid: Tensor
) -> Parts:
    """Make the other parts, and check that they can work together.

    Raises:
        ExplainedError: they cannot.
    """
    synthetic = plan.synthetic(real.spec, representation, class_grid)
    check_budget(synthetic.budget(), plan.config.ipc)
    check_bytes(storage_of(synthetic, real.whitening), plan.config.budget_bytes)
    task, engine = make_task(plan, real)
    algorithm: Algorithm = plan.make("algorithm", task=task)
    check_traits(plan.config, synthetic, algorithm)
    if algorithm.learns:
        check_images_fit(representation.layout, real.spec)
    check_batches(plan.config, synthetic, task, lambda: plan.make("algorithm", task=task))
    return Parts(synthetic, task, engine, algorithm)


def make_task(plan: Plan, real: RealData) -> tuple[Task, Engine]:
    """Return what an algorithm is given; expert trajectories are kept in the cache."""
    config = plan.config
    with memory_for(
        "a network", next=lowering(config, "choose a smaller --backbone.", of=["backbone"])
    ):
        make_backbone = plan.networks(real.spec)
    engine = Engine.choose(
        config.engine,
        make_backbone(Generator().manual_seed(0)),
        plan.device,
        image_shape=real.spec.image_shape,
    )
    experts = Experts(
        real,
        make_backbone,
        engine,
        backbone=config.component("backbone"),
        seed=config.seed,
        folder=cache_dir() / "experts",
    )
    return Task(real=real, new_backbone=make_backbone, engine=engine, experts=experts), engine

"""The parts of a run on other images, where only files tell the shape of its own.

Part of the rehearsal in `assemble.py`, which makes all parts on noise where the shape is known.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill_core.contracts.algorithm import Algorithm, Task
from distill_core.contracts.components import Labeler, Representation
from distill_core.contracts.data import DataSpec, RealData
from distill_core.contracts.geometry import Placement
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.data.placeholder import noise
from distill_core.engine.engine import Engine
from distill_core.run.checks import check_traits
from distill_core.run.plan import Plan

# Ten classes of usual size, so that nearly any representation and labeler can be made.
STAND_IN = DataSpec("stand-in", tuple("0123456789"), (3, 32, 32), ())


def check_unseen(plan: Plan) -> None:
    """Check that the traits of the parts fit, before any file is read.

    Raises:
        InputError: they do not, whatever the images are.
    """
    real = noise(STAND_IN, plan.device)
    try:
        representation = plan.representation(STAND_IN)
        class_grid = torch.arange(STAND_IN.num_classes)
        class_grid = class_grid.reshape(representation.layout.grid_shape)
        synthetic = synthetic_of(plan, real, representation, class_grid)
        task = Task(real=real, new_backbone=plan.networks(STAND_IN), engine=Engine())
        algorithm: Algorithm = plan.make("algorithm", task=task)
    except Exception:  # what does not fit these images may fit the real ones
        return
    check_traits(plan.config, synthetic, algorithm)


def synthetic_of(
    plan: Plan, real: RealData, representation: Representation, class_grid: Tensor
) -> SyntheticDataset:
    """Return the synthetic dataset of a representation, with the labeler of the plan."""
    placement = Placement(representation.layout, class_grid)
    labeler: Labeler = plan.make("labeler", placement=placement)
    return SyntheticDataset(representation, labeler, placement=placement, spec=real.spec)

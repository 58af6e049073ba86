"""The rehearsal: the parts of a run are made on noise, to refuse what does not fit at once.

Where only files tell the shape of the images, the traits of the parts are checked on others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill_core.contracts.algorithm import Algorithm, Task
from distill_core.contracts.data import DataSpec, RealData
from distill_core.data.placeholder import noise
from distill_core.engine.engine import Engine
from distill_core.run.checks import check_traits
from distill_core.run.parts import make_parts, make_representation
from distill_core.run.plan import Plan
from distill_core.run.sizing import sized

# Ten classes of usual size, so that nearly any representation and labeler can be made.
STAND_IN = DataSpec("stand-in", tuple("0123456789"), (3, 32, 32), ())


def check_unseen(plan: Plan) -> None:
    """Check that the traits of the parts fit, before any file is read.

    Raises:
        InputError: they do not, whatever the images are.
    """
    real = noise(STAND_IN, plan.device)
    try:
        representation = sized(plan, STAND_IN)
        synthetic = plan.synthetic(STAND_IN, representation)
        task = Task(real=real, new_backbone=plan.networks(STAND_IN), engine=Engine())
        algorithm: Algorithm = plan.make("algorithm", task=task)
    except Exception:  # what does not fit these images may fit the real ones
        return
    check_traits(plan.config, synthetic, algorithm)


def rehearse(plan: Plan) -> None:
    """Make the parts from noise, before data are loaded and whitened, which may take long.

    Raises:
        ExplainedError: the parts do not fit.
    """
    found = on_noise(plan)
    if found is not None:
        real, class_grid = found
        make_parts(plan, real, make_representation(plan, real), class_grid)
    elif plan.outline() is None:
        check_unseen(plan)


def on_noise(plan: Plan) -> tuple[RealData, Tensor] | None:
    """Return noise in the shape of the dataset, and its classes in the order of their numbers.

    None where the dataset does not tell its shape without its files, or where the representation's
    class grid does not have a place for each class, which the orderer refuses.
    """
    spec = plan.outline()
    if spec is None:
        return None
    real = noise(spec, plan.device)
    rows, columns = make_representation(plan, real).layout.grid_shape
    if rows * columns != spec.num_classes:
        return None
    return real, torch.arange(spec.num_classes).reshape(rows, columns)

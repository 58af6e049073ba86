"""The two controls of a distilled set: real images of the same pixel budget, and all of them.

Both are evaluated by the same code and protocol as the result (`evaluate.py`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Generator, Tensor
from torch.nn import functional

from distill_core.contracts.data import RealData
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import Batch
from distill_core.contracts.whitening import Whitening
from distill_core.data.initial_pixels import draw_real
from distill_core.data.real_budget import RealBudget, enlarge, real_budget, shrink
from distill_core.evaluation.evaluate import Evaluator, Result
from distill_core.system.cache import cache_dir
from distill_core.system.door import read_plain
from distill_core.system.files import parse_json, write_atomically
from registry import EnvironmentFault

FULL_BATCH = 128
FULL_FORMAT = 1


def random_images(real: RealData, budget: RealBudget, *, generator: Generator) -> Batch:
    """Draw real training images of every class, uniformly without replacement.

    Images of a smaller budget are scaled down with antialiasing and bilinearly up again, before
    whitening. A class with too few images gives all of them, some more than once.

    Returns:
        Images (n, C, h, w), class by class, and their one-hot labels (n, K), on the device.
    """
    num_classes = real.spec.num_classes
    classes = torch.arange(num_classes).repeat_interleave(budget.per_class)
    images = draw_real(real, classes, generator=generator).to(real.train.images.device)
    if budget.stored_hw != budget.image_hw:
        images = downscale(images, budget, real.whitening)
    return Batch(images, functional.one_hot(classes, num_classes).to(images))


def downscale(images: Tensor, budget: RealBudget, whitening: Whitening) -> Tensor:
    """Shrink whitened images (n, C, h, w) to the budget's size and enlarge them again."""
    return enlarge(shrink(images, budget, whitening), budget, whitening).to(images)


def random_control(evaluator: Evaluator, recipe: Recipe, *, ipc: float, nets: int) -> Result:
    """Train on real images of the same pixel budget, a new draw for every network.

    Args:
        evaluator: trains and measures the networks.
        recipe: as for the distilled set.
        ipc: pixel budget of the distilled set, images per class.
        nets: how many networks.
    """
    real = evaluator.real
    budget = real_budget(ipc, real.spec.image_shape[1:])
    result = evaluator.evaluate(
        lambda generator: random_images(real, budget, generator=generator),
        recipe,
        nets=nets,
        split=real.test,
        name="random",
    )
    return result.noted(str(budget))


def full_control(evaluator: Evaluator, recipe: Recipe, *, steps: int, nets: int) -> Result:
    """Train on the whole training split, or read an earlier result from the cache.

    Args:
        evaluator: trains and measures the networks. The cache of rank 0 decides; other ranks
            may have another one.
        recipe: as for the distilled set, except for batches of 128 and `steps`.
        steps: training steps.
        nets: how many networks.
    """
    real, ranks = evaluator.real, evaluator.ranks
    recipe = recipe.model_copy(update={"batch_size": FULL_BATCH, "steps": steps})
    path = full_path(evaluator, recipe, nets=nets)
    cached = _read(path) if ranks.is_main else None
    if known := ranks.broadcast(cached and cached.as_dict()):
        return Result.from_dict(known).noted(f"from the cache ({path.name})")
    train = Batch(real.train.images, real.train.labels)
    result = evaluator.evaluate(train, recipe, nets=nets, split=real.test, name="full")
    result = result.noted(f"all {len(real.train)} training images")
    if ranks.is_main:
        try:
            write_atomically(path, json.dumps(result.as_dict(), indent=1).encode())
        except EnvironmentFault as fault:  # the result is valid without
            # Results are published: they must not name a user's folders.
            reason = fault.what.replace(str(cache_dir()), "the cache")
            return result.noted(f"not kept for later runs: {reason}")
    return result


def full_path(evaluator: Evaluator, recipe: Recipe, *, nets: int) -> Path:
    """Return where the cache keeps the result on the full training set."""
    key = {
        "format": FULL_FORMAT,
        "data": evaluator.real.fingerprint,
        "recipe": recipe.model_dump(mode="json"),
        "backbone": evaluator.backbone,
        "nets": nets,
        "seed": evaluator.seed,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_dir() / "full" / f"{digest[:32]}.json"


def _read(path: Path) -> Result | None:
    """Return a result from the cache; None if there is none, or it is damaged."""
    try:
        return Result.from_dict(parse_json(read_plain(path)))
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""What a distilled set must be measured against: real images of the same pixel budget, and all.

Both controls are trained by the same code and protocol as the result (`evaluate.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from distill_core.cache import cache_dir
from distill_core.contracts import Backbone
from distill_core.data import RealData
from distill_core.documents import parse_json
from distill_core.evaluate import Result, evaluate, evaluate_drawn
from distill_core.files import write_atomically
from distill_core.ranks import ALONE, Ranks
from distill_core.real_budget import RealBudget, enlarge, real_budget, shrink
from distill_core.recipe import Recipe
from distill_core.starting import draw_real
from distill_core.synthetic import Batch
from distill_core.whitening import Whitening
from registry import EnvironmentFault

FULL_BATCH = 128
FULL_FORMAT = 1


def real_batch(real: RealData, budget: RealBudget, *, generator: Generator) -> Batch:
    """Draw real training images of every class, uniformly without replacement.

    Stored small, they are scaled down with antialiasing, and up again bilinearly for use, before
    whitening. A class with fewer images than asked for gives all of them, some again.

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
    """Store whitened images (n, C, h, w) at the budget's size and bring them back to their own."""
    return enlarge(shrink(images, budget, whitening), budget, whitening).to(images)


def random_control(
    real: RealData,
    *,
    ipc: float,
    recipe: Recipe,
    make_backbone: Callable[[Generator], Backbone],
    nets: int,
    seed: int,
    after_net: Callable[[int, float], None] | None = None,
    ranks: Ranks = ALONE,
) -> Result:
    """Train on real images of the same pixel budget, drawn anew for every network.

    Args:
        ipc: what the distilled set costs, images per class.
        recipe: as for the distilled set.
        ranks: share the networks out.
    """
    budget = real_budget(ipc, real.spec.image_shape[1:])
    result = evaluate_drawn(
        lambda generator: real_batch(real, budget, generator=generator),
        recipe=recipe,
        split=real.test,
        augmentations=real.spec.augmentations,
        make_backbone=make_backbone,
        nets=nets,
        seed=seed,
        after_net=after_net,
        ranks=ranks,
    )
    return result.noted(str(budget))


def full_control(
    real: RealData,
    *,
    recipe: Recipe,
    steps: int,
    make_backbone: Callable[[Generator], Backbone],
    backbone: Mapping[str, Any],
    nets: int,
    seed: int,
    after_net: Callable[[int, float], None] | None = None,
    ranks: Ranks = ALONE,
) -> Result:
    """Train on the whole training split, or read from the cache what that gave before.

    Args:
        recipe: as for the distilled set, but for batches of 128 and `steps`.
        steps: training steps.
        backbone: name and options of the backbone, for the key of the cache.
        ranks: share the networks out. The cache of rank 0 decides; others may see another one.
    """
    recipe = recipe.model_copy(update={"batch_size": FULL_BATCH, "steps": steps})
    path = full_path(real, recipe=recipe, backbone=backbone, nets=nets, seed=seed)
    cached = _read(path) if ranks.is_main else None
    if known := ranks.broadcast(cached and cached.as_dict()):
        return Result.from_dict(known).noted(f"from the cache ({path.name})")
    result = evaluate(
        real.train.images,
        real.train.labels,
        recipe=recipe,
        split=real.test,
        augmentations=real.spec.augmentations,
        make_backbone=make_backbone,
        nets=nets,
        seed=seed,
        after_net=after_net,
        ranks=ranks,
    ).noted(f"all {len(real.train)} training images")
    if ranks.is_main:
        try:
            write_atomically(path, json.dumps(result.as_dict(), indent=1).encode())
        except EnvironmentFault as fault:  # the result is as good without
            # Results are passed on: where a user keeps files is nobody else's business.
            reason = fault.what.replace(str(cache_dir()), "the cache")
            return result.noted(f"not kept for later runs: {reason}")
    return result


def full_path(
    real: RealData, *, recipe: Recipe, backbone: Mapping[str, Any], nets: int, seed: int
) -> Path:
    """Return where the cache keeps the result on the full training set."""
    key = {
        "format": FULL_FORMAT,
        "data": real.fingerprint,
        "recipe": recipe.model_dump(mode="json"),
        "backbone": backbone,
        "nets": nets,
        "seed": seed,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_dir() / "full" / f"{digest[:32]}.json"


def _read(path: Path) -> Result | None:
    """A damaged entry is none: it is made again."""
    try:
        return Result.from_dict(parse_json(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None

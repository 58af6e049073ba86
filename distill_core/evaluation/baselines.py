"""The controls of a distilled set: real images of the same pixels or bytes, and all of them.

They are evaluated by the same code and protocol as the result (`evaluate.py`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from distill_core.system.cached_tensors import Misfit, made_anew
from distill_core.system.files import parse_json, write_atomically
from distill_core.system.plain_files import read_plain
from registry import EnvironmentFault, InputError

FULL_BATCH = 128
LEVELS = 255  # above zero, of a number in 8 bits
FULL_FORMAT = 1
DIGEST = "sha256"


def random_images(
    real: RealData, budget: RealBudget, *, generator: Generator, in_bytes: bool = False
) -> Batch:
    """Draw real training images of every class, uniformly without replacement.

    Images of a smaller budget are scaled down with antialiasing and bilinearly up again, before
    whitening. A class with too few images gives all of them, some more than once.

    Args:
        real: the real data.
        budget: how many images per class, and of which size.
        generator: the source of randomness.
        in_bytes: smaller images are stored in 8 bits a number, as whole ones are anyway.

    Returns:
        Images (n, C, h, w), class by class, and their one-hot labels (n, K), on the device.
    """
    num_classes = real.spec.num_classes
    classes = torch.arange(num_classes).repeat_interleave(budget.per_class)
    images = draw_real(real, classes, generator=generator).to(real.train.device)
    if budget.stored_hw != budget.image_hw:
        images = downscale(images, budget, real.whitening, in_bytes=in_bytes)
    return Batch(images, functional.one_hot(classes, num_classes).to(images))


def downscale(
    images: Tensor, budget: RealBudget, whitening: Whitening, *, in_bytes: bool = False
) -> Tensor:
    """Shrink whitened images (n, C, h, w) to the budget's size and enlarge them again.

    Args:
        images: whitened.
        budget: the size.
        whitening: of the images.
        in_bytes: round the small images to 8 bits a number.
    """
    small = shrink(images, budget, whitening)
    if in_bytes:
        small = (LEVELS * small.clamp(0, 1)).round() / LEVELS
    return enlarge(small, budget, whitening).to(images)


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
        split=evaluator.judged_on,
        name="random",
    )
    return result.noted(str(budget))


def bytes_control(evaluator: Evaluator, recipe: Recipe, *, limit: int, nets: int) -> Result:
    """Train on real images of as many bytes, 8 bits a number as pictures have; a draw for each.

    They follow each other class by class, so that their labels take no bytes. Pictures are not
    compressed, as distilled numbers are not.

    Args:
        evaluator: trains and measures the networks.
        recipe: as for the distilled set.
        limit: bytes of the distilled set, labels counted.
        nets: how many networks.
    """
    real = evaluator.real
    whole = real.spec.num_classes * math.prod(real.spec.image_shape)
    budget = real_budget(limit / whole, real.spec.image_shape[1:])
    result = evaluator.evaluate(
        lambda generator: random_images(real, budget, generator=generator, in_bytes=True),
        recipe,
        nets=nets,
        split=evaluator.judged_on,
        name="random_bytes",
    )
    return result.noted(f"{budget}: {round(budget.ipc * whole):,} bytes, 8 bits a number")


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
    key = _key(evaluator, recipe, nets=nets)
    path = full_path(evaluator, recipe, nets=nets)
    cached = _kept(path, key) if ranks.is_main else None
    if known := ranks.broadcast(cached and cached.as_dict()):
        return Result.from_dict(known).noted(f"from the cache ({path.name})")
    result = evaluator.evaluate(
        real.train, recipe, nets=nets, split=evaluator.judged_on, name="full"
    )
    result = result.noted(f"all {len(real.train)} training images")
    if ranks.is_main:
        try:
            _keep(path, key, result)
        except EnvironmentFault as fault:  # the result is valid without
            # Results are published: they must not name a user's folders.
            reason = fault.what.replace(str(cache_dir()), "the cache")
            return result.noted(f"not kept for later runs: {reason}")
    return result


def full_path(evaluator: Evaluator, recipe: Recipe, *, nets: int) -> Path:
    """Return where the cache keeps the result on the full training set."""
    text = json.dumps(_key(evaluator, recipe, nets=nets), sort_keys=True)
    return cache_dir() / "full" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _key(evaluator: Evaluator, recipe: Recipe, *, nets: int) -> dict[str, Any]:
    """Everything that the result depends on; of the test split as before there was a choice."""
    return {
        **({} if evaluator.split == "test" else {"split": evaluator.split}),
        "format": FULL_FORMAT,
        "data": evaluator.real.fingerprint,
        "recipe": recipe.model_dump(mode="json"),
        "backbone": evaluator.backbone,
        "nets": nets,
        "seed": evaluator.seed,
    }


def _keep(path: Path, key: Mapping[str, Any], result: Result) -> None:
    body = {**result.as_dict(), "key": {**key}}
    body[DIGEST] = _digest(body)
    write_atomically(path, json.dumps(body, indent=1).encode())


def _kept(path: Path, key: Mapping[str, Any]) -> Result | None:
    """Return a result from the cache; None if there is none, or it is not what is meant."""
    if not path.exists():
        return None
    try:
        if not path.is_file():
            raise Misfit("is not a file of results")
        body = parse_json(read_plain(path))
        result = Result.from_dict(body)
        said = body.get("key", {**key, "recipe": result.recipe.model_dump(mode="json")})
        if said != json.loads(json.dumps(key)):
            raise Misfit("was made from something else")
        if not _sound(result, key["nets"]):
            raise Misfit("does not hold the accuracies of these networks")
        if "key" not in body:  # training on everything may have taken hours
            return result.noted("kept by an earlier version, without a digest")
        if body.pop(DIGEST, None) != _digest(body):
            raise Misfit("does not have the digest of what it holds")
    except Misfit as misfit:
        made_anew(path, str(misfit))
        return None
    except InputError:
        made_anew(path, "is not a file of results")
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        made_anew(path, "cannot be read")
        return None
    return result


def _sound(result: Result, nets: int) -> bool:
    tables = (result.accuracies, *result.checkpoints.values())
    return all(len(each) == nets and all(0 <= value <= 1 for value in each) for each in tables)


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

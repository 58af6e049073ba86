"""How networks are trained on a distilled set: the protocols of the literature, by name."""

from __future__ import annotations

from distill_core.config.sections import EvaluateOptions
from distill_core.contracts.recipes import Recipe


def protocol(options: EvaluateOptions, recipe: Recipe, *, num_items: int) -> Recipe:
    """Return the training recipe of an evaluation protocol.

    "recipe": as the distillation algorithm says. "podd", "rat": Adam at the rate of the
    distillation, constant, flip or rotate; 2000 and 3000 steps. "dc": SGD 0.01 with momentum 0.9
    and weight decay 5e-4, batches of 256, a tenth of the rate from the middle on; 300 epochs, or
    1000 with DSA where the algorithm augments. "mtt": the same for 1000 epochs with DSA, at the
    rate that was distilled, if by SGD. "frepo": Adam 3e-4, 1000 steps of at most 500 images, with
    DSA; the paper uses an MSE loss and averaged weights, ours cross-entropy and the last weights.

    Args:
        options: name the protocol; `steps` replaces its number of steps.
        recipe: the algorithm's own recipe.
        num_items: images in the distilled set; protocols in epochs need it.

    Source: Shul et al. 2024, Feng et al. 2024, Zhao and Bilen 2021, Cazenavette et al. 2022, Zhou
        et al. 2022, from their published code. Ours keeps the momentum; the code of Zhao and
        Bilen makes a new optimizer in the middle.
    """
    name, steps = options.protocol, options.steps
    if name == "podd":
        recipe = _distillation_adam(recipe, steps=2000)
    elif name == "rat":
        recipe = _distillation_adam(recipe, steps=3000)
    elif name == "dc":
        epochs, augment = (300, "none") if recipe.augment == "none" else (1000, "dsa")
        recipe = _matching_sgd(recipe, num_items, lr=0.01, epochs=epochs, augment=augment)
    elif name == "mtt":
        lr = recipe.lr if recipe.optimizer == "sgd" else 0.01
        recipe = _matching_sgd(recipe, num_items, lr=lr, epochs=1000, augment="dsa")
    elif name == "frepo":
        recipe = _distillation_adam(recipe, steps=1000).model_copy(
            update={"lr": 3e-4, "batch_size": 500, "augment": "dsa"}
        )
    return recipe.model_copy(update={"steps": steps}) if steps is not None else recipe


def _distillation_adam(recipe: Recipe, *, steps: int) -> Recipe:
    return recipe.model_copy(
        update={
            "optimizer": "adam",
            "lr": recipe.lr if recipe.optimizer == "adam" else 1e-3,
            "weight_decay": 0.0,
            "schedule": "constant",
            "steps": steps,
            "augment": "flip_rotate",
        }
    )


def _matching_sgd(
    recipe: Recipe, num_items: int, *, lr: float, epochs: int, augment: str
) -> Recipe:
    batch_size = 256
    return recipe.model_copy(
        update={
            "optimizer": "sgd",
            "lr": lr,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "schedule": "step",
            "batch_size": batch_size,
            "steps": epochs * -(-num_items // batch_size),
            "augment": augment,
        }
    )

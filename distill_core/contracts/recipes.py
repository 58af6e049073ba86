"""How to train a network on a distilled dataset: a value that travels with the result."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from registry.options import Options, about


class Recipe(Options):
    """A training recipe. The loss is always cross-entropy with soft labels.

    Source of the defaults: Shul et al. 2024, published evaluation (the inner optimizer of the
    distillation, no decay, random batches, flip or rotate).
    """

    optimizer: Literal["adam", "sgd"] = Field(
        "adam", description="optimizer", **about(source="PoDD, published code")
    )
    lr: float = Field(
        1e-3, gt=0, description="learning rate", **about("per step", "PoDD, published code")
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")
    schedule: Literal["constant", "step", "cosine"] = Field(
        "constant",
        description="learning rate over time: constant, divided by 10 at half time, or cosine",
        **about(source="PoDD, published code"),
    )
    batch_size: int = Field(
        96,
        ge=1,
        description="synthetic images per step; all where fewer",
        **about("images", "PoDD, section 5.1"),
    )
    steps: int = Field(
        2000, ge=1, description="training steps", **about("steps", "PoDD, published code")
    )
    augment: Literal["none", "flip_rotate", "dsa"] = Field(
        "flip_rotate",
        description="augmentation; operations that a dataset forbids are left out",
        **about(source="PoDD, published code"),
    )

    def images_of_a_step(self, count: int) -> int:
        """Return how many of `count` images a step takes: `batch_size`, or all if there are fewer.

        >>> Recipe(batch_size=96).images_of_a_step(10)
        10
        """
        return min(self.batch_size, count)

    def described(self, count: int) -> str:
        """Say in words how a network is trained on `count` images.

        >>> Recipe(lr=0.01, steps=300, batch_size=96).described(10)
        'adam, learning rate 0.01, 300 steps of all 10 images, augmentation flip_rotate'
        """
        size = self.images_of_a_step(count)
        images = f"all {size}" if size == count else str(size)
        return (
            f"{self.optimizer}, learning rate {self.lr:g}, {self.steps} steps of {images} images, "
            f"augmentation {self.augment}"
        )

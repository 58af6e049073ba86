"""Settings of `teacher`, apart from it so that checking them imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from distill_core.builtin.algorithms.shared_options import DSA
from distill_core.builtin.algorithms.trajectories.options import (
    MTT_CODE,
    PUBLISHED_RATES,
    SMALL,
    SMALL_IMAGES,
    rate_default,
)
from distill_core.plugin import Options, about


class TeacherOptions(Options):
    """Settings of `teacher`: the recipe of MTT's experts, which TESLA's teachers are.

    Meant for starting images that are real (`repr.init=real`, or `--repr coreset`).
    """

    epochs: int = Field(
        10,
        ge=1,
        description="passes over the real images that the teacher is trained for. It labels the "
        "starting images, which should be real ones: -o repr.init=real",
        **about("epochs"),
    )
    lr: float | None = Field(
        None,
        gt=0,
        description=f"learning rate of the teacher, SGD; {rate_default('expert_lr')}",
        **about("per step", MTT_CODE, advanced="yes"),
    )
    batch: int | None = Field(
        None,
        ge=1,
        description=f"real images per step of the teacher; {rate_default('expert_batch')}",
        **about("images", MTT_CODE, advanced="yes"),
    )
    augment: Literal["none", "flip_rotate", "dsa"] = Field(
        "dsa",
        description="augmentation of the teacher's batches",
        **about(source=f"{MTT_CODE}; {DSA}", advanced="yes"),
    )

    def recipe(self, side: int) -> dict[str, Any]:
        """Return the settings of an `ExpertRecipe`.

        Args:
            side: the shorter side of the images, pixels.
        """
        rates = SMALL_IMAGES if side < SMALL else PUBLISHED_RATES
        return {
            "lr": self.lr or rates["expert_lr"],
            "batch": self.batch or rates["expert_batch"],
            "augment": self.augment,
        }

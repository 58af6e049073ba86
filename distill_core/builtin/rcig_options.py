"""Settings of RCIG, apart from it so that checking them imports no torch."""

from __future__ import annotations

from pydantic import Field

from distill_core.builtin.regression_options import RegressionOptions
from distill_core.plugin import about


class RcigOptions(RegressionOptions):
    """Settings of `rcig`. Source: Loo et al. 2023 (arXiv:2302.06755) and its published code."""

    pool: int = Field(
        30, ge=1, description="online networks", **about("networks", "published code")
    )
    most_updates: int = Field(
        15,
        ge=1,
        description="most online updates after an outer step; the number is drawn",
        **about("updates", "published code"),
    )
    online_lr: float = Field(
        5e-5,
        gt=0,
        description="learning rate of online networks, Adam",
        **about("per update", "published code"),
    )
    inner_steps: int = Field(
        20,
        ge=1,
        description="Adam steps on the linearised inner problem",
        **about("steps", "published code"),
    )
    inverse_steps: int = Field(
        20,
        ge=1,
        description="Adam steps for the inverse Hessian times a vector",
        **about("steps", "published code"),
    )
    inner_lr: float = Field(
        1e-5,
        gt=0,
        description="rate of inner steps from which the run looks for its own",
        **about("per inner step", "published code"),
    )
    inverse_lr: float = Field(
        5e-5,
        gt=0,
        description="rate of inverse steps from which the run looks for its own",
        **about("per inverse step", "published code"),
    )
    l2_rate: float = Field(
        5e-4,
        gt=0,
        description="penalty of the inner problem for each training image",
        **about("per image", "published code"),
    )
    pixel_lr: float = Field(
        3e-3,
        gt=0,
        description="learning rate of pixels, outer AdaBelief",
        **about("per outer step", "published code"),
    )
    label_lr: float | None = Field(
        None,
        gt=0,
        description="learning rate of labels, outer AdaBelief; default: pixel_lr",
        **about("per outer step", "published code"),
    )
    temperature_lr: float = Field(
        3e-2,
        gt=0,
        description="learning rate of the logarithm of the temperature",
        **about("per outer step", "published code"),
    )
    flip: bool | None = Field(
        None,
        description="add mirrored copies of the synthetic images to the inner problem; default: "
        "where the dataset allows it",
        **about(source="published code"),
    )

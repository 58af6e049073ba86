"""Settings of the methods that regress on the synthetic images.

Apart from the methods, so that checking settings imports no torch.
"""

from __future__ import annotations

from pydantic import Field

from distill_core.builtin.algorithms import shared_options as shared
from distill_core.plugin import Options, about


class RegressionOptions(Options):
    """Settings that all methods with a pool of networks and a regression have."""

    max_updates: int = Field(
        100,
        ge=1,
        description="updates of an online network before a fresh one takes its place",
        **about("updates", "Zhou et al. 2022; published code of RCIG", advanced="yes"),
    )
    real_batch: int = Field(
        1024,
        ge=1,
        description="real images per outer step",
        **about("images", "published code", counts="real_batch"),
    )
    margin: bool = Field(
        False,
        description="reward synthetic labels for a clear first class, as published for images "
        "of one class; works against labels that classes share",
        **about(source="published code", advanced="yes"),
    )
    max_items: int = Field(
        4000,
        ge=1,
        description="most rows of the regression, mirrored copies included; its time grows with "
        "the third power",
        **about("rows", advanced="yes"),
    )


PLAIN_RIDGE, OVERLAP_RIDGE = 1e-6, 1e-4


class FrepoOptions(RegressionOptions):
    """Settings of `frepo`. Source: Zhou et al. 2022 (arXiv:2206.00719) and its published code."""

    pool: int = Field(
        10, ge=1, description="online networks", **about("networks", "Zhou et al. 2022")
    )
    online_lr: float = Field(
        3e-4,
        gt=0,
        description="learning rate of online networks, Adam",
        **about("per update", "published code", advanced="yes"),
    )
    online_batch: int = Field(
        1000,
        ge=1,
        description="synthetic images per online update; all where there are fewer",
        **about("images", "published code", advanced="yes"),
    )
    pixel_lr: float = shared.pixel_lr(1e-3, "Adam", "published code (PyTorch)")
    label_lr: float | None = shared.label_lr("Adam")
    ridge: float | None = Field(
        None,
        ge=1e-10,
        le=1,
        description="ridge of the kernel regression, relative to the mean of the kernel's "
        f"diagonal; default: {PLAIN_RIDGE:g} as published, {OVERLAP_RIDGE:g} where training "
        "images share pixels, whose features are nearly collinear",
        **about(source="Zhou et al. 2022, equation 4", advanced="yes"),
    )
    flip: bool | None = shared.flip(
        "the regression", on="on up to 1 IPC where the dataset allows it"
    )


class RcigOptions(RegressionOptions):
    """Settings of `rcig`. Source: Loo et al. 2023 (arXiv:2302.06755) and its published code."""

    pool: int = Field(
        30, ge=1, description="online networks", **about("networks", "published code")
    )
    most_updates: int = Field(
        15,
        ge=1,
        description="most online updates after an outer step; the number is drawn",
        **about("updates", "published code", advanced="yes"),
    )
    online_lr: float = Field(
        5e-5,
        gt=0,
        description="learning rate of online networks, Adam",
        **about("per update", "published code", advanced="yes"),
    )
    inner_steps: int = Field(
        20,
        ge=1,
        description="Adam steps on the linearised inner problem",
        **about("steps", "published code", advanced="yes"),
    )
    inverse_steps: int = Field(
        20,
        ge=1,
        description="Adam steps for the inverse Hessian times a vector",
        **about("steps", "published code", advanced="yes"),
    )
    inner_lr: float = Field(
        1e-5,
        gt=0,
        description="rate of inner steps from which the run looks for its own",
        **about("per inner step", "published code", advanced="yes"),
    )
    inverse_lr: float = Field(
        5e-5,
        gt=0,
        description="rate of inverse steps from which the run looks for its own",
        **about("per inverse step", "published code", advanced="yes"),
    )
    l2_rate: float = Field(
        5e-4,
        gt=0,
        description="penalty of the inner problem for each training image",
        **about("per image", "published code"),
    )
    pixel_lr: float = shared.pixel_lr(3e-3, "AdaBelief", "published code")
    label_lr: float | None = shared.label_lr("AdaBelief", "published code")
    temperature_lr: float = Field(
        3e-2,
        gt=0,
        description="learning rate of the logarithm of the temperature",
        **about("per outer step", "published code", advanced="yes"),
    )
    flip: bool | None = shared.flip("the inner problem", on="where the dataset allows it")

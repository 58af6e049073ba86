"""Settings of FRePo, apart from it so that checking them imports no torch."""

from __future__ import annotations

from pydantic import Field

from distill_core.builtin.regression_options import RegressionOptions
from distill_core.plugin import about

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
        **about("per update", "published code"),
    )
    online_batch: int = Field(
        1000,
        ge=1,
        description="synthetic images per online update; all where there are fewer",
        **about("images", "published code"),
    )
    pixel_lr: float = Field(
        1e-3,
        gt=0,
        description="learning rate of pixels, outer Adam",
        **about("per outer step", "published code (PyTorch)"),
    )
    label_lr: float | None = Field(
        None,
        gt=0,
        description="learning rate of labels, outer Adam; default: pixel_lr",
        **about("per outer step"),
    )
    ridge: float | None = Field(
        None,
        ge=1e-10,
        le=1,
        description="ridge of the kernel regression, relative to the mean of the kernel's "
        f"diagonal; default: {PLAIN_RIDGE:g} as published, {OVERLAP_RIDGE:g} where training "
        "images share pixels, whose features are nearly collinear",
        **about(source="Zhou et al. 2022, equation 4"),
    )
    flip: bool | None = Field(
        None,
        description="add mirrored copies of the synthetic images to the regression; default: on "
        "up to 1 IPC where the dataset allows it",
        **about(source="published code"),
    )

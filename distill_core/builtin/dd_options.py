"""Settings of `dd`, apart from it so that checking them imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distill_core.plugin import Options, about


class DdOptions(Options):
    """Settings of `dd`; the lengths are those of Wang et al. (2018), 10 batches seen 3 times."""

    steps: int = Field(
        30,
        ge=1,
        description="inner steps, all of which are differentiated",
        **about("steps", "Wang et al. 2018"),
    )
    batch: int | None = Field(
        None,
        ge=1,
        description="most synthetic images per inner step; default: as many as there are classes",
        **about("images"),
    )
    inner_lr: float = Field(
        0.02,
        gt=0,
        description="learning rate of every inner step at the start; they are learned",
        **about("per inner step", "Wang et al. 2018"),
    )
    real_batch: int = Field(
        1024, ge=1, description="real images per outer step; all where fewer", **about("images")
    )
    pixel_lr: float = Field(
        1e-2,
        gt=0,
        description="learning rate of pixels, outer Adam",
        **about("per outer step"),
    )
    label_lr: float | None = Field(
        None,
        gt=0,
        description="learning rate of labels, outer Adam; default: pixel_lr",
        **about("per outer step", "Sucholutsky and Schonlau 2019"),
    )
    rate_lr: float | None = Field(
        None,
        gt=0,
        description="learning rate of the inner learning rates (before softplus), outer Adam; "
        "default: pixel_lr",
        **about("per outer step"),
    )
    augment: Literal["none", "flip_rotate", "dsa"] = Field(
        "none", description="augmentation of synthetic and, drawn apart, of real images"
    )

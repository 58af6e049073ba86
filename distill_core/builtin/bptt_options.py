"""Settings of `bptt`, apart from it so that checking them imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distill_core.builtin.matching_options import COVERAGE
from distill_core.plugin import Options, about


class BpttOptions(Options):
    """Settings of `bptt`; the defaults are those of Deng and Russakovsky (2022) on CIFAR-10."""

    steps: int = Field(
        150,
        ge=1,
        description="inner steps, all of which are differentiated",
        **about("steps", "published code"),
    )
    inner_lr: float = Field(
        0.01,
        gt=0,
        description="learning rate of inner SGD",
        **about("per inner step", "published code"),
    )
    momentum: float = Field(
        0.9, ge=0, lt=1, description="momentum of inner SGD", **about(source="published code")
    )
    weight_decay: float = Field(
        0.0, ge=0, description="L2 penalty of inner SGD", **about(source="published code")
    )
    batch: int = Field(
        96, ge=1, description="synthetic images per inner step; all where fewer", **about("images")
    )
    balanced: bool = Field(
        False, description="draw items of rare classes more often; no effect on full batches"
    )
    real_per_class: int = Field(
        64,
        ge=1,
        description="real images of every class per outer step; all where fewer",
        **about("images", "published code"),
    )
    pixel_lr: float = Field(
        0.1,
        gt=0,
        description="learning rate of pixels, outer SGD",
        **about("per outer step", "published code"),
    )
    label_lr: float | None = Field(
        None,
        gt=0,
        description="learning rate of labels, outer SGD; default: pixel_lr",
        **about("per outer step"),
    )
    outer_momentum: float = Field(
        0.5, ge=0, lt=1, description="momentum of outer SGD", **about(source="published code")
    )
    coverage_normalize: bool = Field(True, description=COVERAGE)
    clip_norm: float | None = Field(
        2.0,
        gt=0,
        description="largest norm of the hypergradient, pixels and labels together",
        **about(source="published code"),
    )
    augment: Literal["none", "flip_rotate", "dsa"] = Field(
        "none",
        description="augmentation of synthetic and, drawn apart, of real images",
        **about(source="published code"),
    )

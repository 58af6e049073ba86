"""Settings of the methods that regress on the synthetic images.

Apart from the methods, so that checking settings imports no torch.
"""

from __future__ import annotations

from pydantic import Field

from distill_core.plugin import Options, about


class RegressionOptions(Options):
    """Settings that all methods with a pool of networks and a regression have."""

    max_updates: int = Field(
        100,
        ge=1,
        description="updates of an online network before a fresh one takes its place",
        **about("updates", "Zhou et al. 2022; RCIG: published code"),
    )
    real_batch: int = Field(
        1024, ge=1, description="real images per outer step", **about("images", "published code")
    )
    margin: bool = Field(
        False,
        description="reward synthetic labels for a clear first class, as published for images "
        "of one class; works against labels that classes share",
        **about(source="published code"),
    )
    max_items: int = Field(
        4000,
        ge=1,
        description="most rows of the regression, mirrored copies included; its time grows with "
        "the third power",
        **about("rows"),
    )

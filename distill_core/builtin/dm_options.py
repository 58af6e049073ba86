"""Settings of distribution matching, apart from it so that checking imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distill_core.builtin.matching_options import ByClassOptions
from distill_core.plugin import about


class DmOptions(ByClassOptions):
    """Settings of `dm`. Source of the defaults: Zhao & Bilen 2023 (arXiv:2110.04181)."""

    pixel_lr: float = Field(
        1.0,
        gt=0,
        description="learning rate of pixels, outer SGD",
        **about("per outer step", "published code"),
    )
    augment: Literal["none", "flip_rotate", "dsa"] = Field(
        "dsa",
        description="augmentation, drawn once for real and synthetic images",
        **about(source="Zhao and Bilen 2023"),
    )

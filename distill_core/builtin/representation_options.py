"""Settings of `images` and `basis`, apart from them so that checking them imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distill_core.plugin import Options, about


class ImagesOptions(Options):
    """Settings of `images`."""

    init: Literal["noise", "real"] = Field(
        "noise",
        description="starting pixels: Gaussian noise, or random real images of the class",
        **about(source="RaT-BPTT, published code"),
    )
    init_scale: float = Field(1.0, gt=0, description="factor on the starting pixels")


class BasisOptions(Options):
    """Settings of `basis`."""

    bases: int = Field(
        16,
        ge=1,
        description="shared images (published for CIFAR-10 at one image per class)",
        **about("images", "published code"),
    )
    downsample: int = Field(
        2,
        ge=1,
        description="bases are stored at this fraction of height and width",
        **about(source="published code"),
    )
    init_scale: float = Field(1.0, gt=0, description="factor on the starting bases")

"""Settings of the representations, apart from them so that checking them imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from distill_core.plugin import OptionError, Options, about


class ImagesOptions(Options):
    """Settings of `images`."""

    init: Literal["noise", "real"] = Field(
        "noise",
        description="starting pixels: Gaussian noise, or random real images of the class",
        **about(source="RaT-BPTT, published code"),
    )
    init_scale: float = Field(1.0, gt=0, description="factor on the starting pixels")
    downsample: int = Field(
        1,
        ge=1,
        description="images are stored at this fraction of height and width, and scaled up "
        "bilinearly: at 2 the pixels of one image hold 4",
        **about(source="IDC, Kim et al. 2022"),
    )


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


class CoresetOptions(Options):
    """Settings of `coreset`."""

    method: Literal["random", "herding", "kcenter", "forgetting"] = Field(
        "random",
        description="how images are chosen: at random; herding (their mean follows the class's); "
        "kcenter (each farthest from those chosen before); forgetting (most often unlearned)",
    )
    per_class: int | None = Field(
        None,
        ge=1,
        description="images of every class; default: as many as fit whole, at least one. More are "
        "stored smaller, and scaled up for use",
        **about("images"),
    )
    features: Literal["pixels", "network"] = Field(
        "pixels",
        description="herding and kcenter alone: whitened pixels (no training), or those of a "
        "ConvNet trained on all real images, as in the literature",
    )
    epochs: int = Field(
        10,
        ge=1,
        description="passes over the real images of the ConvNet; without effect but with "
        "method=forgetting or features=network",
        **about("epochs"),
    )
    width: int = Field(
        32,
        ge=1,
        description="width of the ConvNet; without effect but with method=forgetting or "
        "features=network",
        **about("channels"),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.features == "network" and self.method not in {"herding", "kcenter"}:
            raise OptionError(
                f"option repr.features = network has no effect with repr.method = {self.method}.",
                expected="repr.method = herding or kcenter, which compare features.",
                next="drop it, or pass -o repr.method=herding.",
            )
        return self

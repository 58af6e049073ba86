"""Settings of the representations, apart from them so that checking them imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from distill_core.plugin import OptionError, Options, about

NO_SCALE = {"init_scale": 1.0}  # of the start, which earlier versions had


class ImagesOptions(Options):
    """Settings of `images`."""

    init: Literal["noise", "real"] = Field(
        "noise",
        description="starting pixels: Gaussian noise, or random real images of the class",
        **about(source="RaT-BPTT, published code"),
    )
    init_scale: float = Field(
        1.0, gt=0, description="factor on the starting pixels", **about(advanced="yes")
    )
    downsample: int = Field(
        1,
        ge=1,
        description="images are stored at this fraction of height and width, and scaled up "
        "bilinearly: at 2 the pixels of one image hold 4",
        **about(source="IDC, Kim et al. 2022 (arXiv:2205.14959)"),
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
    init_scale: float = Field(
        1.0, gt=0, description="factor on the starting bases", **about(advanced="yes")
    )


class FredOptions(Options):
    """Settings of `fred`."""

    retired: ClassVar = NO_SCALE

    coefficients: int | None = Field(
        None,
        ge=1,
        description="frequencies kept of every channel of an image; default: a sixteenth of its "
        "pixels (published for 32x32)",
        **about("numbers", "FreD, Shin et al. 2023"),
    )
    init: Literal["real", "noise"] = Field(
        "real",
        description="starting images: random real ones of the class, or Gaussian noise",
        **about(source="FreD"),
    )


class DdifOptions(Options):
    """Settings of `ddif`; the defaults are published for CIFAR-10 at one image per class."""

    retired: ClassVar = NO_SCALE

    width: int = Field(
        6,
        ge=1,
        description="width of a field (published for CIFAR-100: 10)",
        **about("neurons", "DDiF, Shin et al. 2025"),
    )
    hidden: int = Field(
        2, ge=1, le=64, description="hidden layers of a field", **about("layers", "DDiF")
    )
    w0_first: float = Field(
        30.0, gt=0, description="frequency of the first layer", **about(source="DDiF")
    )
    w0: float = Field(10.0, gt=0, description="frequency of the others", **about(source="DDiF"))
    fit_steps: int = Field(
        5000,
        ge=0,
        description="steps that fit each field to a random real image of its class, at the start; "
        "0: fields start as they are drawn",
        **about("steps", "DDiF", advanced="yes"),
    )


class GsddOptions(Options):
    """Settings of `gsdd`; the defaults are published for CIFAR-10 at one image per class."""

    retired: ClassVar = NO_SCALE

    points: int | None = Field(
        None,
        ge=1,
        description="Gaussians of an image; default: 22, and fewer for images below 20x20 pixels",
        **about("Gaussians", "GSDD, Jiang et al. 2025"),
    )
    init: Literal["real", "noise"] = Field(
        "real",
        description="colours at the start: each image is fitted to a random real one of its "
        "class, or Gaussian noise",
        **about(source="GSDD"),
    )
    fit_steps: int = Field(
        200,
        ge=0,
        description="steps of that fit, once per run",
        **about("steps", advanced="yes", needs="init=real"),
    )
    boundary: float = Field(
        0.1,
        ge=0,
        description="weight of the loss that keeps Gaussians inside the image; 0: none",
        **about(source="GSDD", advanced="yes"),
    )


class SpeedOptions(Options):
    """Settings of `speed`; the defaults are published for CIFAR-10 at one image per class."""

    retired: ClassVar = NO_SCALE

    tokens: int = Field(
        16,
        ge=1,
        description="tokens that all images share (published for CIFAR-100: 64)",
        **about("tokens", "SPEED, Wei et al. 2023"),
    )
    dim: int = Field(
        32,
        ge=1,
        description="size of a token, a multiple of heads (published for CIFAR-100: 96)",
        **about("numbers", "SPEED"),
    )
    heads: int = Field(
        2,
        ge=1,
        description="maps of every image, each for its share of a token (CIFAR-100: 3)",
        **about("maps", "SPEED", advanced="yes"),
    )
    kept: int = Field(
        48,
        ge=1,
        description="entries that are kept of every map, the largest",
        **about("entries", "SPEED"),
    )
    blocks: int = Field(
        1,
        ge=1,
        description="blocks of the decoder (published for CIFAR-100: 2)",
        **about("blocks", "SPEED", advanced="yes"),
    )
    patch: int = Field(
        4,
        ge=1,
        description="side of the patches that an image is made of (published for 64x64: 8)",
        **about("pixels", "SPEED", advanced="yes"),
    )
    fit_steps: int = Field(
        400,
        ge=0,
        description="steps that fit everything to random real images of the classes, at the "
        "start: the first half with whole maps, of which the largest entries are then chosen; 0: "
        "the largest of random maps",
        **about("steps", advanced="yes"),
    )
    sparsity: float = Field(
        3e-6,
        ge=0,
        description="weight of the sum of all entries, without sign, while whole maps are fitted",
        **about(source="SPEED, while distilling", advanced="yes", needs="fit_steps!=0"),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.dim % self.heads:
            raise OptionError(
                f"option repr.dim = {self.dim} cannot be split into {self.heads} heads.",
                expected="repr.dim that is a multiple of repr.heads.",
                next="correct -o repr.dim or -o repr.heads.",
            )
        return self


_TRAINED = "method=forgetting or features=network"  # when a coreset trains a network


class CoresetOptions(Options):
    """Settings of `coreset`."""

    method: Literal["random", "herding", "kcenter", "forgetting"] = Field(
        "random",
        description="how images are chosen: at random; herding (their mean follows the class's); "
        "kcenter (each farthest from those chosen before); forgetting (most often unlearned)",
        **about(
            source="herding: Welling 2009, Herding Dynamical Weights to Learn; kcenter: Sener and "
            "Savarese 2018 (arXiv:1708.00489); forgetting: Toneva et al. 2019 (arXiv:1812.05159)"
        ),
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
        **about(advanced="yes", needs="method=herding|kcenter"),
    )
    epochs: int = Field(
        10,
        ge=1,
        description="passes over the real images of the ConvNet, with method=forgetting or "
        "features=network",
        **about("epochs", advanced="yes", needs=_TRAINED),
    )
    width: int = Field(
        32,
        ge=1,
        description="width of the ConvNet, with method=forgetting or features=network",
        **about("channels", advanced="yes", needs=_TRAINED),
    )

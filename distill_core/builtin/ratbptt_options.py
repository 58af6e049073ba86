"""Settings of RaT-BPTT, apart from it so that checking them imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from distill_core.plugin import OptionError, Options, about

CurriculumName = Literal["random", "fixed", "staged", "window", "none"]


# Of both papers on CIFAR-10; and, for images below 28 pixels, what was measured on digits.
PUBLISHED: dict[str, Any] = {
    "window": 60,
    "total": 200,
    "inner_lr": 1e-3,
    "real_batch": 5000,
    "pixel_lr": 1e-3,
}
SMALL: dict[str, Any] = {
    "window": 30,
    "total": 50,
    "inner_lr": 3e-3,
    "real_batch": 256,
    "pixel_lr": 3e-2,
}
SMALL_LABEL_DIVISOR = 3  # of pixel_lr; the papers use one rate for both


def _default(name: str) -> str:
    return f"default: {PUBLISHED[name]:g}; {SMALL[name]:g} for images below 28 pixels"


class RatBpttOptions(Options):
    """Settings of `ratbptt`; for images of 28 pixels and more, those of both papers."""

    window: int | None = Field(
        None,
        ge=1,
        description=f"inner steps that are differentiated; {_default('window')}",
        **about("steps", "RaT-BPTT; PoDD, section 3"),
    )
    total: int | None = Field(
        None,
        ge=1,
        description=f"longest inner loop; {_default('total')}",
        **about("steps", "RaT-BPTT; PoDD, section 3"),
    )
    curriculum: CurriculumName = Field(
        "random",
        description="steps before the window: random; fixed (total - window); staged (more when "
        "the loss stalls); window (none, but a random length from window to total); none",
        **about(source="RaT-BPTT; published code"),
    )
    min_offset: int = Field(
        0,
        ge=0,
        description="fewest steps before the window, with curriculum random or staged",
        **about("steps", "published code"),
    )
    epoch_steps: int = Field(
        1,
        ge=1,
        description="outer steps that share one draw of the curriculum",
        **about("outer steps", "published code"),
    )
    patience: int = Field(
        600,
        ge=1,
        description="outer steps without a new low before a staged curriculum goes on",
        **about("outer steps", "published code"),
    )
    inner_optimizer: Literal["adam", "sgd"] = Field(
        "adam", description="inner optimizer", **about(source="published code")
    )
    inner_lr: float | None = Field(
        None,
        gt=0,
        description=f"learning rate of the inner optimizer; {_default('inner_lr')}",
        **about("per inner step", "published code"),
    )
    momentum: float = Field(
        0.9, ge=0, lt=1, description="momentum of inner SGD", **about(source="published code")
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        description="L2 penalty of inner SGD (published: 5e-4)",
        **about(source="published code"),
    )
    batch: int = Field(
        96,
        ge=1,
        description="synthetic images per inner step",
        **about("images", "PoDD, section 5.1"),
    )
    balanced: bool = Field(
        False, description="draw items of rare classes more often; no effect on full batches"
    )
    real_batch: int | None = Field(
        None,
        ge=1,
        description=f"real images per outer step; {_default('real_batch')}",
        **about("images", "PoDD, section 5.1"),
    )
    pixel_lr: float | None = Field(
        None,
        gt=0,
        description=f"learning rate of pixels, outer Adam; {_default('pixel_lr')}",
        **about("per outer step", "PoDD, section 5.1"),
    )
    label_lr: float | None = Field(
        None,
        gt=0,
        description="learning rate of labels, outer Adam; default: pixel_lr; a third of it for "
        "images below 28 pixels",
        **about("per outer step", "published code"),
    )
    augment: Literal["none", "flip_rotate", "dsa"] = Field(
        "flip_rotate",
        description="augmentation of synthetic and, drawn apart, of real images",
        **about(source="published code"),
    )
    clip: bool = Field(
        True, description="clip the gradient of the pixels", **about(source="published code")
    )
    label_clip: bool = Field(False, description="clip that of the labels, on its own")
    clip_factor: float = Field(
        2.0, gt=0, description="bound, times the average norm", **about(source="published code")
    )
    clip_decay: float = Field(
        0.9, ge=0, lt=1, description="decay of the average norm", **about(source="published code")
    )

    def settle(self, *, small: bool) -> Settled:
        """Fill the defaults that depend on the size of the images.

        Raises:
            OptionError: window, total and min_offset do not fit each other.
        """
        defaults = SMALL if small else PUBLISHED
        chosen = {name: getattr(self, name) for name in defaults}
        values = {n: defaults[n] if chosen[n] is None else chosen[n] for n in defaults}
        label_lr = self.label_lr or values["pixel_lr"] / (SMALL_LABEL_DIVISOR if small else 1)
        settled = Settled(**values, label_lr=label_lr)
        _check_lengths(self, settled.window, settled.total, default=int(defaults["window"]))
        return settled

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.window is not None and self.total is not None:
            _check_lengths(self, self.window, self.total, default=PUBLISHED["window"])
        if self.inner_optimizer == "adam" and self.weight_decay:
            raise OptionError(
                f"option algo.weight_decay = {self.weight_decay:g} has no effect.",
                expected="algo.weight_decay = 0 with algo.inner_optimizer = adam.",
                next="drop it, or pass -o algo.inner_optimizer=sgd.",
            )
        return self


@dataclass(frozen=True)
class Settled:
    """The options whose defaults depend on the size of the images, with their values."""

    window: int
    total: int
    inner_lr: float
    real_batch: int
    pixel_lr: float
    label_lr: float


def _check_lengths(options: RatBpttOptions, window: int, total: int, *, default: float) -> None:
    if options.curriculum != "none" and window > total:
        raise OptionError(
            f"option algo.window = {window} is longer than algo.total = {total}.",
            expected="1 <= window <= total.",
            next=f"pass -o algo.window={default:g} (the default), or raise -o algo.total.",
        )
    if options.curriculum in {"random", "staged"} and options.min_offset > total - window:
        raise OptionError(
            f"option algo.min_offset = {options.min_offset} leaves no room for the window.",
            expected=f"0 <= min_offset <= total - window = {total - window}.",
            next="lower -o algo.min_offset, or raise -o algo.total.",
        )

"""Settings of the methods that differentiate an inner loop, apart from them: checking them imports
no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distill_core.builtin.algorithms import shared_options as shared
from distill_core.builtin.algorithms.unrolled.lengths import (
    PUBLISHED,
    SMALL,
    SMALL_LABEL_DIVISOR,
    CurriculumName,
    Resolved,
    check_lengths,
)
from distill_core.plugin import Options, about

if TYPE_CHECKING:
    from distill_core.plugin import DataSpec


def _balanced() -> Any:
    return Field(
        False,
        description="draw items of rare classes more often; no effect on full batches",
        **about(advanced="yes"),
    )


def _weight_decay(note: str = "", **marks: str) -> Any:
    return Field(
        0.0,
        ge=0,
        description=f"L2 penalty of inner SGD{note}",
        **about(source="published code", advanced="yes", **marks),
    )


class DdOptions(Options):
    """Settings of `dd`; the lengths are those of Wang et al. (2018), 10 batches seen 3 times."""

    retired: ClassVar = {"rate_lr": None}

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
        **about("images", counts="inner_batch"),
    )
    inner_lr: float = Field(
        0.02,
        gt=0,
        description="learning rate of every inner step at the start; they are learned",
        **about("per inner step", "Wang et al. 2018"),
    )
    real_batch: int = Field(
        1024,
        ge=1,
        description="real images per outer step; all where fewer",
        **about("images", counts="real_batch"),
    )
    pixel_lr: float = shared.pixel_lr(1e-2, "Adam")
    label_lr: float | None = shared.label_lr("Adam", "Sucholutsky and Schonlau 2019")
    augment: shared.AugmentName = shared.inner_augment("none")


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
    momentum: float = shared.momentum(0.9, "inner SGD", "published code")
    weight_decay: float = _weight_decay()
    batch: int = Field(
        96,
        ge=1,
        description="synthetic images per inner step; all where fewer",
        **about("images", counts="inner_batch"),
    )
    balanced: bool = _balanced()
    real_per_class: int = Field(
        64,
        ge=1,
        description="real images of every class per outer step; all where fewer",
        **about("images", "published code"),
    )
    pixel_lr: float = shared.pixel_lr(0.1, "SGD", "published code")
    label_lr: float | None = shared.label_lr("SGD")
    outer_momentum: float = shared.momentum(0.5, "outer SGD", "published code")
    coverage_normalize: bool = shared.coverage_normalize()
    clip_norm: float | None = Field(
        2.0,
        gt=0,
        description="largest norm of the hypergradient, pixels and labels together",
        **about(source="published code", advanced="yes"),
    )
    augment: shared.AugmentName = shared.inner_augment("none", "published code")

    def item_draws(self, spec: DataSpec) -> int:
        """Return how many items an inner loop draws."""
        del spec
        return self.steps * self.batch


_DRAWN = "curriculum=random|window|adaptive"
_SGD, _CLIPPED = "inner_optimizer=sgd", "clip=true or label_clip=true"  # what options need


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
        "the loss stalls); window (none, but a random length from window to total); none; "
        "adaptive (a dry run of total steps without derivatives says where; its draw can serve "
        "several outer steps with epoch_steps, 10 in the published code)",
        **about(
            source="RaT-BPTT; published code; adaptive: AT-BPTT, Li et al. 2025 (arXiv:2510.04838)",
            advanced="yes",
        ),
    )
    min_offset: int = Field(
        0,
        ge=0,
        description="fewest steps before the window, with curriculum random or staged",
        **about("steps", "published code", advanced="yes", needs="curriculum=random|staged"),
    )
    spread: int | None = Field(
        None,
        ge=0,
        description="how much the length of an adaptive window varies, up and down (published: 10 "
        "of 40, 20 and 30 of 100); default: a quarter of window, or what total leaves room for",
        **about("steps", "AT-BPTT", advanced="yes", needs="curriculum=adaptive"),
    )
    epoch_steps: int = Field(
        1,
        ge=1,
        description="outer steps that share one draw of the curriculum",
        **about("outer steps", "published code", advanced="yes", needs=_DRAWN),
    )
    patience: int = Field(
        600,
        ge=1,
        description="outer steps without a new low before a staged or adaptive curriculum goes on",
        **about(
            "outer steps", "published code", advanced="yes", needs="curriculum=staged|adaptive"
        ),
    )
    inner_optimizer: Literal["adam", "sgd"] = Field(
        "adam", description="inner optimizer", **about(source="published code")
    )
    epsilon: Literal["after", "before"] = Field(
        "after",
        description="add inner Adam's epsilon after correcting the bias of the root, as PyTorch; "
        "or before, as the published code in the differentiated steps, here in all steps",
        **about(source="published code", advanced="yes", needs="inner_optimizer=adam"),
    )
    inner_lr: float | None = Field(
        None,
        gt=0,
        description=f"learning rate of the inner optimizer; {_default('inner_lr')}",
        **about("per inner step", "published code"),
    )
    momentum: float = shared.momentum(0.9, "inner SGD", "published code", needs=_SGD)
    weight_decay: float = _weight_decay(" (published: 5e-4)", needs=_SGD)
    batch: int = Field(
        96,
        ge=1,
        description="synthetic images per inner step",
        **about("images", "PoDD, section 5.1", counts="inner_batch"),
    )
    balanced: bool = _balanced()
    real_batch: int | None = Field(
        None,
        ge=1,
        description=f"real images per outer step; {_default('real_batch')}",
        **about("images", "PoDD, section 5.1", counts="real_batch"),
    )
    pixel_lr: float | None = shared.pixel_lr(
        None, "Adam", "PoDD, section 5.1", varies=_default("pixel_lr")
    )
    label_lr: float | None = shared.label_lr(
        "Adam",
        "published code",
        varies="default: pixel_lr; a third of it for images below 28 pixels",
    )
    augment: shared.AugmentName = shared.inner_augment("flip_rotate", "published code")
    clip: bool = Field(
        True,
        description="clip the gradient of the pixels",
        **about(source="published code", bounds_spikes="true", advanced="yes"),
    )
    label_clip: bool = Field(
        False,
        description="clip that of the labels, on its own",
        **about(bounds_label_spikes="true", advanced="yes"),
    )
    clip_factor: float = Field(
        2.0,
        gt=0,
        description="bound, times the average norm",
        **about(source="published code", advanced="yes", needs=_CLIPPED),
    )
    clip_decay: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="decay of the average norm",
        **about(source="published code", advanced="yes", needs=_CLIPPED),
    )
    clip_spikes: Literal["count", "bounded"] = Field(
        "count",
        description="whether a norm enters the average as it was (a spike raises its own bound), "
        "or as it is after clipping",
        **about(
            source="count: published code",
            bounds_spikes="bounded",
            bounds_label_spikes="bounded",
            advanced="yes",
            needs=_CLIPPED,
        ),
    )

    def resolve_defaults(self, *, small: bool) -> Resolved:
        """Fill the defaults that depend on the size of the images.

        Raises:
            OptionError: window, total and min_offset do not fit each other.
        """
        defaults = SMALL if small else PUBLISHED
        chosen = {name: getattr(self, name) for name in defaults}
        values = {n: defaults[n] if chosen[n] is None else chosen[n] for n in defaults}
        label_lr = self.label_lr or values["pixel_lr"] / (SMALL_LABEL_DIVISOR if small else 1)
        room = max(0, values["total"] - values["window"])
        spread = min(values["window"] // 4, room) if self.spread is None else self.spread
        resolved = Resolved(**values, label_lr=label_lr, spread=spread)
        self._check_lengths(resolved.window, resolved.total, default=defaults["window"])
        return resolved

    def item_draws(self, spec: DataSpec) -> int:
        """Return how many items the longest inner loop draws."""
        resolved = self.resolve_defaults(small=spec.is_small)
        steps = resolved.window if self.curriculum == "none" else resolved.total
        return steps * self.batch

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.window is not None and self.total is not None:
            self._check_lengths(self.window, self.total, default=PUBLISHED["window"])
        return self

    def _check_lengths(self, window: int, total: int, *, default: float) -> None:
        check_lengths(
            self.curriculum,
            window=window,
            total=total,
            min_offset=self.min_offset,
            spread=self.spread or 0,
            default=default,
        )

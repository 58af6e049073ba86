"""Settings of trajectory matching, apart from it so that checking them imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from distill_core.builtin.algorithms import shared_options as shared
from distill_core.plugin import Options, about

MTT_CODE, FTD_CODE = "MTT, published code", "FTD, published code"
MTT_COMMANDS = "MTT and DC-BENCH, published commands"

# One image per class, of MTT's published code and of DC-BENCH, which publishes commands for it.
# Learned labels are ours, and so are their rates.
PUBLISHED_RATES: dict[str, Any] = {"student_lr": 0.01, "expert_lr": 0.01, "expert_batch": 256}
FEW_CLASSES: dict[str, Any] = {
    **PUBLISHED_RATES,
    "syn_steps": 50,
    "expert_epochs": 2,
    "max_start": 2,
    "pixel_lr": 100.0,
    "label_lr": 1.0,
    "rate_lr": 1e-7,
}
MANY_CLASSES: dict[str, Any] = {
    **PUBLISHED_RATES,
    "syn_steps": 20,
    "expert_epochs": 3,
    "max_start": 20,
    "pixel_lr": 1000.0,
    "label_lr": 10.0,
    "rate_lr": 1e-5,
}
LARGE_IMAGES: dict[str, Any] = {
    **PUBLISHED_RATES,
    "syn_steps": 10,
    "expert_epochs": 2,
    "max_start": 10,
    "pixel_lr": 10_000.0,
    "label_lr": 100.0,
    "rate_lr": 1e-4,
}
# Ours, from a few short runs on digits: at the published rates experts of small data hardly move.
SMALL_IMAGES: dict[str, Any] = {
    "student_lr": 0.02,
    "expert_lr": 0.05,
    "expert_batch": 32,
    "syn_steps": 20,
    "expert_epochs": 2,
    "max_start": 3,
    "pixel_lr": 30.0,
    "label_lr": 0.3,
    "rate_lr": 1e-5,
}
# TESLA publishes CIFAR-10 alone; the others are MTT's.
TESLA_FEW_CLASSES: dict[str, Any] = {**FEW_CLASSES, "max_start": 5, "pixel_lr": 1000.0}
Cases = tuple[dict[str, Any], ...]
CASES = (FEW_CLASSES, MANY_CLASSES, LARGE_IMAGES)
MANY, LARGE, SMALL = 50, 48, 28  # classes, and pixels a side


def _default(name: str, cases: Cases = CASES) -> str:
    few, many, large = (f"{case[name]:g}" for case in cases)
    return (
        f"default: {few}; from {MANY} classes on {many}; from {LARGE} pixels on {large}; below "
        f"{SMALL} pixels {SMALL_IMAGES[name]:g}"
    )


def rate_default(name: str) -> str:
    """Describe a default that is the same in all that is published."""
    small = SMALL_IMAGES[name]
    return f"default: {PUBLISHED_RATES[name]:g}; below {SMALL} pixels {small:g}"


def _syn_steps(source: str, cases: Cases = CASES) -> Any:
    return Field(
        None,
        ge=1,
        description=f"steps of the student on synthetic data; {_default('syn_steps', cases)}",
        **about("steps", source),
    )


def _max_start(source: str, cases: Cases = CASES) -> Any:
    return Field(
        None,
        ge=1,
        description="students start from an expert's epoch below this; "
        + _default("max_start", cases),
        **about("epochs", source),
    )


def _rho(default: float) -> Any:
    return Field(
        default,
        ge=0,
        description="radius of flat experts, sharpness-aware; 0: plain SGD",
        **about(source=FTD_CODE, advanced="yes"),
    )


@dataclass(frozen=True)
class Resolved:
    """The options whose defaults depend on the data, with their values."""

    syn_steps: int
    expert_epochs: int
    max_start: int
    pixel_lr: float
    rate_lr: float
    student_lr: float
    expert_lr: float
    expert_batch: int
    label_lr: float
    batch: int
    alpha: float

    @property
    def epochs(self) -> int:
        """How long experts are trained: to the last snapshot that is ever a target."""
        return self.max_start - 1 + self.expert_epochs


class MttOptions(Options):
    """Settings of `mtt`; the defaults are those published for one image per class."""

    syn_steps: int | None = _syn_steps(MTT_COMMANDS)
    expert_epochs: int | None = Field(
        None,
        ge=1,
        description="epochs of the expert that these are to match; " + _default("expert_epochs"),
        **about("epochs", MTT_COMMANDS),
    )
    max_start: int | None = _max_start(MTT_COMMANDS)
    pixel_lr: float | None = shared.pixel_lr(None, "SGD", MTT_COMMANDS, varies=_default("pixel_lr"))
    rate_lr: float | None = Field(
        None,
        ge=0,
        description="learning rate of the student's rate; divided by student_lr squared for the "
        f"rate's logarithm, which is what is learned; 0: fixed; {_default('rate_lr')}",
        **about("per outer step", MTT_COMMANDS, advanced="yes"),
    )
    label_lr: float | None = shared.label_lr("SGD", varies=_default("label_lr"))
    outer_momentum: float = shared.momentum(0.5, "outer SGD", MTT_CODE)
    coverage_normalize: bool = shared.coverage_normalize()
    student_lr: float | None = Field(
        None,
        gt=0,
        description=f"learning rate of the student at the start; {rate_default('student_lr')}",
        **about("per step", MTT_CODE),
    )
    batch: int | None = Field(
        None,
        ge=1,
        description="synthetic images per step, in shuffled passes; all where there are fewer; "
        "default: twice the number of classes, 96 at least",
        **about("images", MTT_CODE, counts="inner_batch", passes="synthetic"),
    )
    augment: shared.AugmentName = shared.augment(
        "dsa", " of the student's and of the experts' batches", MTT_CODE
    )
    experts: int = Field(
        100, ge=1, description="expert trajectories", **about("networks", MTT_CODE)
    )
    expert_lr: float | None = Field(
        None,
        gt=0,
        description=f"learning rate of experts; {rate_default('expert_lr')}",
        **about("per step", MTT_CODE, advanced="yes"),
    )
    expert_batch: int | None = Field(
        None,
        ge=1,
        description=f"real images per step of experts; {rate_default('expert_batch')}",
        **about("images", MTT_CODE, advanced="yes"),
    )
    expert_momentum: float = shared.momentum(0.0, "experts", MTT_CODE)
    rho: float = _rho(0.0)
    alpha: float | None = Field(
        None,
        ge=0,
        description="flat experts: share of the surrogate gap that is taken off; default: 0.3; "
        f"from {MANY} classes on 1",
        **about(source=FTD_CODE, advanced="yes", needs="rho!=0"),
    )

    def resolve_defaults(self, *, num_classes: int, side: int) -> Resolved:
        """Fill the defaults that depend on the data.

        Args:
            num_classes: K.
            side: the shorter side of the images, pixels.
        """
        defaults = self.case(num_classes, side)
        chosen = {name: getattr(self, name) for name in defaults}
        values = {n: defaults[n] if chosen[n] is None else chosen[n] for n in defaults}
        alpha = 0.3 if num_classes < MANY else 1.0
        return Resolved(
            **values,
            batch=self.batch or max(96, 2 * num_classes),
            alpha=alpha if self.alpha is None else self.alpha,
        )

    def case(self, num_classes: int, side: int) -> dict[str, Any]:
        """Return the row of the table of defaults for some data."""
        if side < SMALL:
            return SMALL_IMAGES
        if side >= LARGE:
            return LARGE_IMAGES
        return MANY_CLASSES if num_classes >= MANY else FEW_CLASSES


_TESLA_CASES = (TESLA_FEW_CLASSES, MANY_CLASSES, LARGE_IMAGES)


class TeslaOptions(MttOptions):
    """Settings of `tesla`; the defaults are those published for one image per class."""

    max_start: int | None = _max_start("TESLA, published code", _TESLA_CASES)
    pixel_lr: float | None = shared.pixel_lr(
        None, "SGD", "TESLA, published code", varies=_default("pixel_lr", _TESLA_CASES)
    )
    grad_scale: float = Field(
        1.0,
        gt=0,
        description="factor of the gradient of pixels and labels: 1 as in the paper; 0.5 as in the "
        "published code, which loses a factor of 2 and whose rates fit that",
        **about(source="TESLA, published code", advanced="yes"),
    )

    def case(self, num_classes: int, side: int) -> dict[str, Any]:
        """Return the row of the table of defaults for some data."""
        found = super().case(num_classes, side)
        return TESLA_FEW_CLASSES if found is FEW_CLASSES else found


FTD_FEW_CLASSES: dict[str, Any] = FEW_CLASSES
FTD_MANY_CLASSES: dict[str, Any] = {**MANY_CLASSES, "syn_steps": 40}
FTD_LARGE_IMAGES: dict[str, Any] = {**LARGE_IMAGES, "syn_steps": 30}
_FTD_CASES = (FTD_FEW_CLASSES, FTD_MANY_CLASSES, FTD_LARGE_IMAGES)
_FTD_AVERAGES = (0.9999, 0.9995, 0.999, 0.999)


class FtdOptions(MttOptions):
    """Settings of `ftd`; the defaults are those published for one image per class."""

    syn_steps: int | None = _syn_steps(FTD_CODE, _FTD_CASES)
    rho: float = _rho(0.01)

    def case(self, num_classes: int, side: int) -> dict[str, Any]:
        """Return the row of the table of defaults for some data."""
        return (*_FTD_CASES, SMALL_IMAGES)[self._row(num_classes, side)]

    def average(self, num_classes: int, side: int) -> float:
        """Return the published decay of the moving average for some data."""
        return _FTD_AVERAGES[self._row(num_classes, side)]

    def _row(self, num_classes: int, side: int) -> int:
        return (*CASES, SMALL_IMAGES).index(super().case(num_classes, side))

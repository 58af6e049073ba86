"""Options that several methods have, each written once: a method says its default and its source.

Functions in place of a base class: options are listed in the order in which a method declares them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from distill_core.plugin import about

AugmentName = Literal["none", "flip_rotate", "dsa"]
DSA = "dsa: Zhao & Bilen 2021 (arXiv:2102.08259)"


def pixel_lr(default: float | None, optimizer: str, source: str = "", *, varies: str = "") -> Any:
    """Return the option `pixel_lr`.

    Args:
        default: None where it follows from the data.
        optimizer: the outer optimizer, as "Adam".
        source: where the default comes from.
        varies: what the default is where it follows from the data; empty elsewhere.
    """
    return _outer_rate(default, f"pixels, outer {optimizer}", varies, source)


def label_lr(
    optimizer: str, source: str = "", *, varies: str = "default: pixel_lr", **marks: str
) -> Any:
    """Return the option `label_lr`, None for the default.

    Args:
        optimizer: the outer optimizer, as "Adam".
        source: where the default comes from.
        varies: what the default is.
        marks: as of `about`.
    """
    return _outer_rate(None, f"labels, outer {optimizer}", varies, source, **marks)


def momentum(default: float, of: str, source: str, **marks: str) -> Any:
    """Return an option that is the momentum of an optimizer, as "outer SGD"."""
    marked = about(source=source, advanced="yes", **marks)
    return Field(default, ge=0, lt=1, description=f"momentum of {of}", **marked)


def augment(default: AugmentName, of: str = "", source: str = "") -> Any:
    """Return the option `augment`; `of` says what is augmented, and how draws are shared."""
    sources = "; ".join(filter(None, [source, DSA]))
    return Field(default, description=f"augmentation{of}", **about(source=sources))


def inner_augment(default: AugmentName, source: str = "") -> Any:
    """Return the option `augment` of a method with an inner loop."""
    return augment(default, " of synthetic and, drawn apart, of real images", source)


def siamese_augment(default: AugmentName, source: str) -> Any:
    """Return the option `augment` of a method that compares real and synthetic images."""
    return augment(default, ", drawn once for real and synthetic images", source)


def flip(to: str, *, on: str) -> Any:
    """Return the option `flip`.

    Args:
        to: what mirrored copies are added to.
        on: when they are by default.
    """
    return Field(
        None,
        description=f"add mirrored copies of the synthetic images to {to}; default: {on}",
        **about(source="published code"),
    )


def coverage_normalize() -> Any:
    """Return the option `coverage_normalize`."""
    return Field(
        True,
        description="divide the gradient of pixels by the number of items that touch them, "
        "relative to its mean; without effect on whole images",
        **about(advanced="yes"),
    )


def _outer_rate(default: float | None, of: str, varies: str, source: str, **marks: str) -> Any:
    described = f"learning rate of {of}" + (f"; {varies}" if varies else "")
    marked = about("per outer step", source, outer_rate="yes", **marks)
    return Field(default, gt=0, description=described, **marked)

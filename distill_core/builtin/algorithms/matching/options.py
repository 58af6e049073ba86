"""Settings of the matching methods, apart from them so that checking imports no torch."""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

from pydantic import Field

from distill_core.builtin.algorithms import shared_options as shared
from distill_core.plugin import Options, about


class ByClassOptions(Options):
    """Settings that all matching methods have."""

    momentum: float = shared.momentum(0.5, "outer SGD", "published code")
    real_batch: int = Field(
        256,
        ge=1,
        description="real images of each class per outer step; all where fewer",
        **about("images", "published code", counts="real_batch"),
    )
    mode: Literal["per_class_aug", "shared_aug"] = Field(
        "per_class_aug",
        description="draw an augmentation for each class, as published, or one per outer step; "
        "either way real and synthetic images share it",
        **about(source="published code", advanced="yes", needs="augment!=none"),
    )
    threshold: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="an item counts for a class if its label gives it more",
        **about(advanced="yes"),
    )
    class_batch: int | None = Field(
        None,
        ge=1,
        description="classes per outer step, drawn at random, the loss scaled up; default: all",
        **about("classes", advanced="yes"),
    )
    coverage_normalize: bool = shared.coverage_normalize()


_TRAINED = "inner_loop!=0 and outer_loop!=1"  # what options of the network's training need


class DcOptions(ByClassOptions):
    """Settings of `dc`. Source of the defaults: Zhao et al. 2021 (arXiv:2006.05929)."""

    pixel_lr: float = shared.pixel_lr(0.1, "SGD", "published code")
    augment: shared.AugmentName = shared.augment("none")
    outer_loop: int | None = Field(
        None,
        ge=1,
        description="outer steps that share a network; default by items per class, as published: "
        "1 for 1, 10 for 10, 50 for 50, in between and above in proportion",
        **about("outer steps", "published code"),
    )
    inner_loop: int | None = Field(
        None,
        ge=0,
        description="epochs that the network trains on the synthetic images between two outer "
        "steps; default by items per class, as published: 50 for 10, 10 for 50",
        **about("epochs", "published code", needs="outer_loop!=1"),
    )
    net_lr: float = Field(
        0.01,
        gt=0,
        description="learning rate of the network, SGD",
        **about("per step", "published code", advanced="yes", needs=_TRAINED),
    )
    net_batch: int = Field(
        256,
        ge=1,
        description="synthetic images per step of the network",
        **about("images", "published code", advanced="yes", needs=_TRAINED),
    )
    distance: Literal["layers", "mse", "cosine"] = Field(
        "layers",
        description="between gradients: 1 - cosine for every output of every layer, biases and "
        "norms left out; sum of squared differences; or 1 - cosine of all numbers together",
        **about(source="Zhao et al. 2021, equation 10; published code", advanced="yes"),
    )
    learn_labels: bool = Field(
        False,
        description="send learned labels a hypergradient too (not published; noisy)",
        **about(learns_labels="true"),
    )
    label_lr: float | None = shared.label_lr("SGD", needs="learn_labels=true")

    def loops(self, items_per_class: float) -> tuple[int, int]:
        """Return outer steps that share a network, and epochs between them.

        Args:
            items_per_class: all items divided by the classes; rounded, 1 at least.
        """
        outer, inner = published_loops(max(1, round(items_per_class)))
        return (
            outer if self.outer_loop is None else self.outer_loop,
            inner if self.inner_loop is None else self.inner_loop,
        )


class DsaOptions(DcOptions):
    """Settings of `dsa`. Source of the defaults: Zhao & Bilen 2021 (arXiv:2102.08259)."""

    augment: shared.AugmentName = shared.siamese_augment("dsa", "Zhao and Bilen 2021")


def published_loops(ipc: int) -> tuple[int, int]:
    """Return the published numbers of passes and of epochs, interpolated between their rows.

    >>> [published_loops(ipc) for ipc in (1, 10, 15, 50, 60)]
    [(1, 1), (10, 50), (15, 38), (50, 10), (60, 10)]
    """
    last = LOOPS[-1]
    if ipc >= last[0]:
        return ipc, last[2]
    above = bisect_left([row[0] for row in LOOPS], ipc)
    if LOOPS[above][0] == ipc:
        return LOOPS[above][1:]
    low, high = LOOPS[above - 1], LOOPS[above]
    share = (ipc - low[0]) / (high[0] - low[0])
    outer, inner = (round(low[k] + share * (high[k] - low[k])) for k in (1, 2))
    return outer, inner


class DmOptions(ByClassOptions):
    """Settings of `dm`. Source of the defaults: Zhao & Bilen 2023 (arXiv:2110.04181)."""

    pixel_lr: float = shared.pixel_lr(1.0, "SGD", "published code")
    augment: shared.AugmentName = shared.siamese_augment("dsa", "Zhao and Bilen 2023")


# Images per class: passes of matching for one network, epochs of its training in between.
# Source: Zhao et al. 2021, published code.
LOOPS = ((1, 1, 1), (10, 10, 50), (20, 20, 25), (30, 30, 20), (40, 40, 15), (50, 50, 10))

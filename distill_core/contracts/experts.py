"""Expert trajectories: their recipe, and what a component may ask of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field
from torch import Tensor

from registry.options import Options


class ExpertRecipe(Options):
    """How an expert is trained; the defaults are those of MTT's published code."""

    lr: float = Field(0.01, gt=0, description="learning rate of SGD")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty")
    batch: int = Field(256, ge=1, description="real images per step, in shuffled passes")
    augment: Literal["none", "flip_rotate", "dsa"] = Field(
        "dsa", description="augmentation, one operation for each batch"
    )
    rho: float = Field(
        0.0, ge=0, description="radius of the adaptive perturbation; 0: plain SGD (FTD: 0.01)"
    )
    alpha: float = Field(
        0.0, ge=0, description="share of the surrogate gap's gradient that is taken off"
    )


@runtime_checkable
class Experts(Protocol):
    """Networks trained on the real data, with their parameters after every epoch.

    Each is made when first needed. Expert i is the same in every run with the same data, backbone,
    recipe and seed.
    """

    def prepare(
        self, recipe: ExpertRecipe, count: int, *, epochs: int, tell: Callable[[str], None]
    ) -> None:
        """Make the missing ones of the experts 0 to count - 1.

        Args:
            recipe: how they are trained.
            count: number of experts.
            epochs: epochs of training, at least.
            tell: is told disk space and time before the start, and progress.
        """
        ...

    def snapshots(
        self, recipe: ExpertRecipe, index: int, epochs: Sequence[int], *, until: int
    ) -> list[Tensor]:
        """Return an expert's parameters after the given epochs, each (P,) float32 on the device.

        Args:
            recipe: how it is trained.
            index: its number, from 0.
            epochs: numbers of epochs; 0 is the start.
            until: epochs of training, if it has to be made first, or made anew because its file
                does not hold it.

        Raises:
            InputError: its training diverges.
        """
        ...

    def logits(
        self,
        recipe: ExpertRecipe,
        index: int,
        epochs: int,
        images: Tensor,
        *,
        tell: Callable[[str], None],
    ) -> Tensor:
        """Return the logits (n, K) of an expert in evaluation mode, on the device of the images.

        Args:
            recipe: how it is trained.
            index: its number, from 0.
            epochs: epochs of training.
            images: (n, C, h, w), whitened.
            tell: as in `prepare`.

        Raises:
            InputError: the network's output for an image depends on the others of its batch.
        """
        ...

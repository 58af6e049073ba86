"""Algorithm `none`: nothing is learned, so that a coreset or a start can be judged as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NoReturn

from torch import nn

from distill_core.plugin import Algorithm, Recipe, Streams, SyntheticDataset, Task


class Nothing(Algorithm):
    """Makes no outer steps.

    Its options are the recipe by which networks are trained on the result; their defaults are the
    published evaluation of PoDD, and `evaluate.protocol=dc` is that of coresets in most papers.
    """

    needs_simplex: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    def __init__(self, options: Recipe, *, task: Task) -> None:
        del task
        self.options = options

    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> NoReturn:
        """Never called."""
        raise AssertionError("an algorithm that learns nothing has no outer optimizer")

    def outer_step(self, synthetic: SyntheticDataset, *, step: int, rng: Streams) -> NoReturn:
        """Never called."""
        raise AssertionError("an algorithm that learns nothing makes no outer step")

    def recipe(self) -> Recipe:
        """Return the options."""
        return self.options

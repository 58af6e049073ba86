"""Class orders: ask an orderer for one, and score it as in the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from distill_core.config.grid_shape import format_grid
from distill_core.contracts.components import Orderer
from distill_core.contracts.data import RealData
from distill_core.contracts.geometry import check_class_grid
from distill_core.contracts.streams import global_states
from distill_core.layout.ordering import (
    class_grid_shape,
    class_means,
    cosine_distances,
    ordering_score,
)
from distill_core.system.out_of_memory import memory_for
from registry import Builder, ContractError

ON_IMAGES = "class-mean images"
OWN_SCORE, IMAGE_SCORE = "ordering_score", f"ordering score on {ON_IMAGES}"  # names of notes


@dataclass(frozen=True)
class ClassOrder:
    """An orderer's class order of a dataset.

    Attributes:
        orderer: its name, or the user's name for it.
        grid: (rows, cols) int64 class grid.
        notes: the orderer's notes, and its score on class-mean images.
        distances: (K, K) between classes, if the orderer gives those that it used.
    """

    orderer: str
    grid: Tensor
    notes: dict[str, str]
    distances: Tensor | None

    def names(self, class_names: Sequence[str]) -> list[list[str]]:
        """Return the class names, row by row."""
        return [[class_names[label] for label in row] for row in self.grid.tolist()]


def order_classes(
    builder: Builder,
    real: RealData,
    *,
    grid_shape: tuple[int, int],
    generator: Generator,
) -> ClassOrder:
    """Ask an orderer for a class grid, and note its score as in the paper.

    Raises:
        ExplainedError: the orderer fails, its grid is not a permutation of the classes, or it is
            another one when the orderer is asked again.
    """
    begin, untouched = generator.get_state(), global_states()
    orderer: Orderer = builder()
    grid = _ordered(builder, orderer, real, grid_shape, generator)
    # Others may have touched global states, such as a package that it imports; orders tell.
    if not untouched():
        generator.set_state(begin)
        if not torch.equal(grid, _ordered(builder, builder(), real, grid_shape, generator)):
            raise _broken(
                builder,
                "gives two orders for the same data and generator, as it draws from a global "
                "random state",
                "draws from the generator that it is given, so that a seed decides everything",
            )
    notes = getattr(orderer, "notes", {})
    if not isinstance(notes, Mapping):
        raise _broken(builder, f"has notes that are {type(notes).__name__}", "text by name")
    notes = {str(key): str(text) for key, text in notes.items()}
    score = ordering_score(grid, cosine_distances(class_means(real)))
    notes[IMAGE_SCORE] = f"{score:.6g}"
    name = builder.entry.item.name
    return ClassOrder(name, grid, notes, getattr(orderer, "distances", None))


def _ordered(
    builder: Builder,
    orderer: Orderer,
    real: RealData,
    grid_shape: tuple[int, int],
    generator: Generator,
) -> Tensor:
    """Return the class grid of an orderer, checked."""
    stored = [each for each in vars(real.train).values() if isinstance(each, Tensor)]
    versions = [each._version for each in stored]
    with memory_for("what the orderer computes", next="choose another --orderer."):
        grid = builder.call(orderer.order, real, grid_shape, generator=generator)
    if versions != [each._version for each in stored]:
        raise _broken(builder, "changes the real images or labels", "data left as they are")
    if fault := _no_whole_numbers(grid):
        raise _broken(builder, f"returns {fault}", "a tensor of class numbers, int64")
    return check_class_grid(grid, grid_shape, who=str(builder))


def _no_whole_numbers(grid: object) -> str | None:
    """Return what is returned in place of a plain tensor of whole numbers; None where it is one."""
    if not isinstance(grid, Tensor):
        return type(grid).__name__
    if grid.layout is not torch.strided or grid.is_meta:
        return f"a tensor on {grid.device} with layout {grid.layout}"
    if grid.is_floating_point() or grid.is_complex() or grid.dtype is torch.bool:
        return str(grid.dtype)
    return None


def one_row(num_classes: int) -> dict[str, str]:
    """Return a note where classes that share a canvas have no other grid than a single row.

    >>> one_row(19)["class grid"]
    '19 is a prime number, so the classes lie in a single row, each beside two others at most, and \
no option changes that; 18 classes would have a grid of 3x6, and 20 one of 4x5'
    >>> one_row(3), one_row(20)
    ({}, {})
    """
    if num_classes <= 3 or class_grid_shape(num_classes)[0] > 1:
        return {}
    fewer, more = (format_grid(class_grid_shape(num_classes + step)) for step in (-1, 1))
    text = (
        f"{num_classes} is a prime number, so the classes lie in a single row, each beside two "
        f"others at most, and no option changes that; {num_classes - 1} classes would have a grid "
        f"of {fewer}, and {num_classes + 1} one of {more}"
    )
    return {"class grid": text}


def _broken(builder: Builder, what: str, expected: str) -> ContractError:
    return ContractError(
        f"{builder} {what}.",
        expected=f"{expected}.",
        next="fix the orderer; distill_core.testing.check_orderer finds such mistakes.",
    )


def note_lines(notes: Mapping[str, str]) -> list[str]:
    """Return the notes on a class order as lines for people, its scores as one sentence.

    >>> note_lines({"similarity": "clip", OWN_SCORE: "0.08", IMAGE_SCORE: "0.3"})[1]
    'score: 0.3 on class-mean images, 0.08 by its own distances; the higher, the more alike \
are neighbours'
    """
    scores = {IMAGE_SCORE: f"on {ON_IMAGES}", OWN_SCORE: "by its own distances"}
    lines = [f"{name}: {text}" for name, text in notes.items() if name not in scores]
    found = [f"{notes[name]} {how}" for name, how in scores.items() if name in notes]
    if found:
        lines.append(f"score: {', '.join(found)}; the higher, the more alike are neighbours")
    return lines

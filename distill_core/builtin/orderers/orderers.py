"""Class orderers that need nothing but the data: identity, random, given, photometric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from distill_core.builtin.orderers.options import GivenOptions, PhotometricOptions
from distill_core.plugin import (
    InputError,
    Options,
    RealData,
    arrange,
    at_home,
    class_means,
    grid_of_names,
    ordering_score,
    parse_json,
    parse_toml,
)


class Identity:
    """Classes in label order, row by row."""

    def __init__(self, options: Options) -> None:
        del options

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        """Return 0, 1, 2, ... as a grid."""
        del generator
        return torch.arange(real.spec.num_classes).reshape(grid_shape)


class Random:
    """A random order, from the run's seed."""

    def __init__(self, options: Options) -> None:
        del options

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        """Return a uniformly random class grid."""
        return torch.randperm(real.spec.num_classes, generator=generator).reshape(grid_shape)


class Given:
    """A class grid from a file."""

    def __init__(self, options: GivenOptions) -> None:
        self.options = options

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        """Read the grid.

        Raises:
            InputError: the file cannot be read, or is not a permutation of the right shape.
        """
        del generator
        file = at_home(self.options.file, "orderer.file")
        rows = read_rows(file)
        return grid_of_names(rows, real.spec.class_names, grid_shape, source=str(file))


class Photometric:
    """Neighbours alike in mean colour, by search over the whole grid.

    The distance is the Euclidean one between the mean colours of classes, un-whitened. ZCA as in
    PoDD takes every image's own brightness away entirely; then hue alone decides.

    Source: proposed by Shul et al. 2024 (arXiv:2403.12040), section 6.
    """

    def __init__(self, options: PhotometricOptions) -> None:
        self.options = options
        self.notes: dict[str, str] = {}
        self.distances: Tensor | None = None

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        """Return the best grid found."""
        colours = class_colours(real)
        distances = torch.cdist(colours, colours)
        grid = arrange(distances, grid_shape, generator=generator, restarts=self.options.restarts)
        self.distances = distances
        self.notes = {
            "similarity": "mean colour",
            "ordering_score": f"{ordering_score(grid, distances):.5g}",
        }
        return grid


def class_colours(real: RealData) -> Tensor:
    """Mean colour of every class, un-whitened: (K, C) float64."""
    means = class_means(real).float().to(real.train.device)
    pictures = real.whitening.invert(means.reshape(-1, *real.spec.image_shape))
    return pictures.mean(dim=(2, 3)).cpu().double()


def read_rows(file: Path) -> list[list[str | int]]:
    """Read rows of class names or numbers from a text, JSON or TOML file.

    Raises:
        InputError: it is missing, or has another form.
    """
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            return _checked(parse_json(text), file)
        if file.suffix == ".toml":
            return _checked(parse_toml(text).get("grid"), file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"the class grid {file} cannot be read: {reason}.",
            expected="a text, .json or .toml file with one row of classes after the other.",
            next="correct -o orderer.file=PATH.",
        ) from None
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    rows = [line.split(",") if "," in line else line.split() for line in lines if line]
    return [[entry.strip() for entry in row] for row in rows]


def _checked(rows: Any, file: Path) -> list[list[str | int]]:
    if isinstance(rows, list) and all(
        isinstance(row, list) and all(isinstance(entry, str | int) for entry in row) for row in rows
    ):
        return rows
    raise InputError(
        f"the class grid {file} is not a list of rows.",
        expected='[["plane", "car"], ["ship", "truck"]], in TOML under the key grid.',
        next="correct the file.",
    )

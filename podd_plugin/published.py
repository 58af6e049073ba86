"""Orderer `published`: the two class grids that the PoDD paper prints."""

from __future__ import annotations

import json
from importlib.resources import files

from torch import Generator, Tensor

from distill_core.plugin import InputError, RealData, grid_of_names, match_names
from podd_plugin.options import PublishedOptions

EXPECTED = "the classes of CIFAR-10 or CIFAR-100, by their names."
NEXT = "use --orderer poco, which orders any classes."


class Published:
    """A class grid as printed in the paper.

    Source: Shul et al. 2024 (arXiv:2403.12040), Fig. 7 and 8. PoCO as described there does not
        give exactly these grids from pooled CLIP embeddings.
    """

    def __init__(self, options: PublishedOptions) -> None:
        self.options = options

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        """Return the printed grid in class numbers.

        Raises:
            InputError: the data have other classes, or the representation another class grid.
        """
        del generator
        grids = published_grids()
        sizes = {sum(map(len, rows)): figure for figure, rows in grids.items()}
        figure: str = self.options.figure
        if figure == "auto":
            if real.spec.num_classes not in sizes:
                raise InputError(
                    f"no grid was published for {real.spec.num_classes} classes.",
                    expected=EXPECTED,
                    next=NEXT,
                )
            figure = sizes[real.spec.num_classes]
        rows, source = grids[figure], f"published grid {figure}"
        try:
            match_names(
                [str(name) for row in rows for name in row], real.spec.class_names, source=source
            )
        except InputError as error:
            raise InputError(error.what, expected=EXPECTED, next=NEXT) from None
        return grid_of_names(rows, real.spec.class_names, grid_shape, source=source)


def published_grids() -> dict[str, list[list[str | int]]]:
    """Return the printed grids by figure, rows of class names in the spelling of the data."""
    text = files("podd_plugin").joinpath("published.json").read_text(encoding="utf-8")
    found = json.loads(text)
    return {figure: rows for figure, rows in found.items() if figure != "source"}

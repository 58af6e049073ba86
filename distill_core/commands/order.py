"""Ordering the classes of a dataset without a run: what `distill order` does."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill_core.artefact.pictures import to_png
from distill_core.commands.order_picture import order_picture
from distill_core.commands.order_request import Request
from distill_core.commands.order_scores import OrderScore, compare_orders
from distill_core.config.grid_shape import format_grid
from distill_core.config.run_config import RunConfig
from distill_core.contracts.data import RealData
from distill_core.contracts.streams import Streams
from distill_core.layout.class_order import ON_IMAGES, ClassOrder, one_row, order_classes
from distill_core.layout.ordering import class_grid_shape
from distill_core.run.assemble import load_real
from distill_core.system.files import write_atomically
from distill_core.system.plain_files import read_plain
from registry import InputError


@dataclass(frozen=True)
class Ordered:
    """The results, and the files that were written.

    Attributes:
        config: of the dataset and the first orderer.
        order: of the first orderer.
        names: its class names, row by row.
        scores: of all orders, best first, then of random ones.
        measured_by: which distances the scores use.
        picture: the PNG.
        grid_file: the class names as JSON, for orderer `given`.
        data_notes: what was lost or left out when the data were read.
        earlier: another grid file that was there, under its new name.
    """

    config: RunConfig
    order: ClassOrder
    names: list[list[str]]
    scores: list[OrderScore]
    measured_by: str
    picture: Path
    grid_file: Path
    data_notes: tuple[str, ...] = ()
    earlier: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "dataset": self.config.data_name,
            "orderer": self.order.orderer,
            "options": self.config.component("orderer")["options"],
            "grid_shape": [*self.order.grid.shape],
            "grid": self.names,
            "class_grid": self.order.grid.tolist(),
            "notes": {**one_row(self.order.grid.numel()), **self.order.notes},
            "data_notes": list(self.data_notes),
            "measured_by": self.measured_by,
            "scores": [score.as_dict() for score in self.scores],
            "picture": str(self.picture),
            "grid_file": str(self.grid_file),
            **({"earlier_grid_file": str(self.earlier)} if self.earlier else {}),
        }


def order_dataset(request: Request) -> Ordered:
    """Order the classes, compare the orders, and write the picture and the grid.

    Raises:
        ExplainedError: the data cannot be loaded, the grid does not hold the classes, an orderer
            cannot order them, or the files cannot be written.
    """
    config, catalogue = request.config, request.plugins["orderer"]
    real = load_real(config, request.plugins)
    shape = _shape(request, real)
    orders = []
    own = (config.orderer, config.orderer, config.options["orderer"])
    for label, name, options in [own, *request.rivals]:
        # Every orderer gets the stream that it has in a run of this seed.
        generator = Streams(config.seed)["order"]
        builder = catalogue.builder(name, options)
        order = order_classes(builder, real, grid_shape=shape, generator=generator)
        orders.append(replace(order, orderer=label))
    first = orders[0]
    scores = compare_orders(orders, real, Streams(config.seed)["random orders"])
    names = first.names(real.spec.class_names)
    write_atomically(request.out, to_png(order_picture(first.grid, real)))
    rows = ",\n ".join(json.dumps(row, ensure_ascii=False) for row in names)
    earlier = _write_grid(request.grid_file, f"[{rows}]\n".encode())
    return Ordered(
        config=config,
        order=first,
        names=names,
        scores=scores,
        measured_by=ON_IMAGES if first.distances is None else f"the distances of {first.orderer}",
        picture=request.out,
        grid_file=request.grid_file,
        data_notes=tuple(real.notes),
        earlier=earlier,
    )


def _write_grid(path: Path, grid: bytes) -> Path | None:
    """Write a grid; another one that is there, and which may be edited by hand, is kept beside it.

    Returns:
        Where the other one is, or None.
    """
    if not path.exists():
        write_atomically(path, grid)
        return None
    other = read_plain(path)
    if other == grid:
        return None
    beside = path.with_suffix(f".{hashlib.sha256(other).hexdigest()[:8]}.json")
    write_atomically(beside, other)
    write_atomically(path, grid)
    return beside


def _shape(request: Request, real: RealData) -> tuple[int, int]:
    square = class_grid_shape(real.spec.num_classes)
    rows, cols = request.grid_shape or square
    if rows * cols != real.spec.num_classes:
        raise InputError(
            f"a class grid of {rows}x{cols} has {rows * cols} places for "
            f"{real.spec.num_classes} classes.",
            expected=f"rows x columns equal to the number of classes, as {format_grid(square)}.",
            next="correct --grid, or leave it out.",
        )
    return rows, cols

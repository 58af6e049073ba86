"""Draws the figures of two pages, always with the same bytes: `python docs/figures/draw.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from distill_core.config.discovery import discover
from distill_core.plugin import DataSpec, Placement, class_coverage

IMAGES = Path(__file__).parents[1] / "images"
INK = "#222222"


def placement() -> Placement:
    """Return the default poster of the digits, classes in their order."""
    spec = DataSpec("digits", tuple("0123456789"), (1, 8, 8), ())
    poster = discover()["representation"].create("poster", {}, spec=spec, ipc=None)
    return Placement(poster.layout, torch.arange(10).reshape(poster.layout.grid_shape))


def draw_poster(axes: Any, place: Placement) -> None:
    """Class cells, coloured by class, and patches."""
    height, width = place.layout.canvas_hw
    for (y0, x0, y1, x1), label in zip(
        place.layout.cells.yxyx.tolist(), place.cell_class.tolist(), strict=True
    ):
        colour = plt.cm.tab10(label)
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fc=(*colour[:3], 0.3), ec=INK, lw=0.8))
        axes.text((x0 + x1) / 2, (y0 + y1) / 2, str(label), ha="center", va="center", fontsize=12)
    for y0, x0, y1, x1 in place.layout.items.yxyx.tolist():
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=INK, lw=1.8, alpha=0.6))
    axes.set(xlim=(-0.5, width + 0.5), ylim=(height + 0.5, -0.5), xlabel="pixels", aspect="equal")


def draw_coverage(axes: Any, place: Placement) -> None:
    """Share of every patch that lies in the cell of every class."""
    covered = class_coverage(place.layout.items, place).double()
    shares = covered / covered.sum(1, keepdim=True)
    picture = axes.imshow(shares.numpy(), cmap="Greys", vmin=0, vmax=1)
    axes.set(xlabel="class", ylabel="patch", xticks=range(10), yticks=range(len(shares)))
    axes.figure.colorbar(picture, ax=axes, label="share of the patch")


def draw_layout(axes: Any) -> None:
    """Items, cells and slots: of a small poster, and of two images for each of two classes."""

    def box(corner: tuple[float, float], colour: int | None, width: float) -> None:
        fill = "none" if colour is None else (*plt.cm.tab10(colour)[:3], 0.3)
        axes.add_patch(Rectangle(corner, 4, 4, fc=fill, ec=INK, lw=width))

    def say(x: float, y: float, text: str) -> None:
        axes.text(x, y, text, ha="center", va="center", fontsize=9)

    for slot, label in enumerate((4, 0, 1, 2, 5, 3)):
        row, column = divmod(slot, 3)
        box((4 * column, 4 * row), label, 0.8)
        # Outside the item in the middle.
        say(4 * column + 2, (1, 7)[row], f"cell {slot}, slot {slot}\nclass {label}")
    box((0, 0), None, 2)
    box((2, 2), None, 2)
    say(0.9, 3.6, "item 0")
    say(5, 3, "item 1")
    for cell, label in enumerate((1, 1, 0, 0)):
        row, column = divmod(cell, 2)
        x, y = 15 + 5 * column, 4.4 * row - 0.2
        box((x, y), label, 2)
        text = f"canvas {cell}\nitem {cell}, cell {cell}\nslot {cell // 2}, class {label}"
        say(x + 2, y + 2, text)
    axes.set(xlim=(-0.3, 24.3), ylim=(8.5, -0.5), aspect="equal")
    axes.axis("off")


def draw_window(axes: Any) -> None:
    """Inner steps before, within and after the window of one outer step."""
    steps, start, stop = 20, 9, 15
    for step in range(steps):
        colour = "#4c78a8" if start <= step < stop else "#d0d7de" if step < start else "white"
        axes.add_patch(Rectangle((step, 0), 0.85, 1, fc=colour, ec=INK, lw=0.8))
    for left, right, text in (
        (0, start, "warm-up\nno graph"),
        (start, stop, "window\ndifferentiated"),
        (stop, steps, "not made"),
    ):
        axes.text((left + right) / 2, -0.75, text, ha="center", va="center", fontsize=10)
    axes.annotate(
        "outer loss\non real images", (stop - 0.1, 1.05), (stop + 2.5, 1.95), ha="center",
        va="center", arrowprops={"arrowstyle": "<-", "color": INK},
    )  # fmt: skip
    axes.annotate(
        "", (start, 1.35), (stop - 0.2, 1.35), arrowprops={"arrowstyle": "->", "color": "#4c78a8"}
    )
    axes.text(start - 0.2, 1.7, "hypergradient", ha="center", color="#4c78a8")
    axes.set(xlim=(-0.5, steps + 0.5), ylim=(-1.3, 2.4))
    axes.axis("off")


def main(folder: Path = IMAGES) -> None:
    """Write all figures."""
    place = placement()
    mpl.rcParams.update({"svg.hashsalt": "distill", "svg.fonttype": "path", "font.size": 10})
    for name, size, draw in (
        ("poster", (8, 3.6), lambda axes: draw_poster(axes, place)),
        ("coverage", (6, 5), lambda axes: draw_coverage(axes, place)),
        ("window", (8, 2.4), draw_window),
        ("layout", (10, 3.8), draw_layout),
    ):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        draw(axes)
        figure.savefig(folder / f"concept-{name}.svg", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    main()

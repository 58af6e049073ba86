"""The canvases of a result with cells and items, for the page; needs only the artefact."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from distill_core.artefact.artefact import load_whole
from distill_core.artefact.contents import POSTER
from distill_core.artefact.distilled import Distilled
from distill_core.artefact.last_set import current_file, read_set
from distill_core.artefact.pictures import (
    MIN_WIDTH,
    heat_map,
    sheet_size,
    to_bytes,
    to_image,
    to_png,
)
from distill_core.system.plain_files import PICTURE, read_plain
from registry import InputError

MOST_ITEMS, MOST_BARS, COLUMNS = 1000, 10, 25
MOST_ROWS = 8192  # of the heat map: browsers show no picture that is much higher
DOWN, ACROSS = 6, 20  # most ticks of the heat map


class Shown(NamedTuple):
    """HTML: the poster with overlay and the items' soft labels; the heat map of all labels."""

    poster: str
    labels: str


def poster_html(run_dir: Path) -> Shown:
    """Return the poster and the labels of a run.

    Raises:
        InputError: the artefact is missing or damaged.
    """
    return read_set(run_dir, lambda check: _poster_html(run_dir, check))


def _poster_html(run_dir: Path, check: Callable[[], None]) -> Shown:
    distilled, tensors = load_whole(run_dir)
    try:
        picture = _picture(current_file(run_dir / POSTER))
        check()
        return _html(distilled, tensors, picture)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{distilled.path} cannot be shown ({type(error).__name__}: {error}).",
            expected="a file that `distill run` wrote.",
            next="restore it from a copy, or run again.",
        ) from None


def _picture(path: Path) -> str:
    try:
        return data_uri(path)
    except FileNotFoundError:
        raise InputError(
            f"{path}, the picture of the result, is missing.",
            expected="all files that `distill run` wrote.",
            next="restore it from a copy, or run again.",
        ) from None


def _html(distilled: Distilled, tensors: Mapping[str, torch.Tensor], picture: str) -> Shown:
    count, _, height, width = tensors["pixels"].shape
    (picture_h, picture_w), corners, factor = sheet_size((count, height, width), MIN_WIDTH)
    chosen, sprite = _sprite(distilled)
    items = tensors["items"][chosen].tolist() if "items" in tensors else []
    data = {
        "corners": corners,
        "factor": factor,
        "period": [height, width],
        "wraps": bool(distilled.metadata["wraps"]),
        "hw": list(distilled.images.shape[-2:]),
        "columns": COLUMNS,
        "classes": list(distilled.class_names),
        "items": items,
        "labels": [_largest(row) for row in distilled.labels[chosen].tolist()],
    }
    size = f"0 0 {picture_w} {picture_h}"
    shown = len(chosen)
    note = f"{shown} of {len(distilled.images)}" if shown < len(distilled.images) else f"{shown}"
    poster = (
        '<section id="poster"><h2>Distilled images</h2>'
        f"<label{'' if 'cells' in tensors else ' hidden'}>"
        '<input type="checkbox" id="grid" checked> class grid</label>'
        f'<div class="sheet" style="--ratio:{picture_w / picture_h:.4f}">'
        f'<img alt="distilled images" src="{picture}">'
        f'<svg viewBox="{size}" id="overlay"><g id="cells">'
        f"{_cells(distilled, tensors.get('cells'), corners, factor)}</g>"
        '<rect id="box" width="0" height="0"/></svg></div>'
        f'<p class="note">Point at or tap the picture to see a training image ({note} can be '
        "shown) and its soft label. Contrast is stretched.</p>"
        f'<div class="item"><canvas id="patch" width="96" height="96"></canvas>'
        '<div id="bars"></div></div>'
        f'<img id="sprite" hidden alt="" src="{png_uri(sprite)}">'
        f'<script type="application/json" id="data">{script_json(data)}</script></section>'
    )
    return Shown(poster, _labels(distilled))


def _labels(distilled: Distilled) -> str:
    """The heat map, with the numbers of some images beside it and the names of some classes."""
    count, names = len(distilled.labels), distilled.class_names
    rows = _spaced(count, MOST_ROWS)
    of_all = f" ({MOST_ROWS} of {count})" if count > MOST_ROWS else ""
    down = "".join(
        f'<span style="top:{100 * (k + 0.5) / count:.2f}%">{k}</span>'
        for k in _spaced(count, DOWN).tolist()
    )
    across = "".join(
        f'<span style="left:{100 * (k + 0.5) / len(names):.2f}%">{escape(names[k])}</span>'
        for k in _spaced(len(names), ACROSS).tolist()
    )
    listed, longest = ", ".join(map(escape, names[:100])), max(map(len, names))
    return (
        '<section><h2>Soft labels</h2><div class="labels">'
        f'<div class="down">{down}</div><img class="heat" alt="label heat map" '
        f'src="{png_uri(to_png(to_image(heat_map(distilled.labels[rows]))))}">'
        f'<div class="across" style="height:min(9rem,{longest}ch)">{across}</div></div>'
        f'<p class="note">A row for each image{of_all}, a column for each class: {listed}. '
        "Dark is zero, yellow the highest.</p></section>"
    )


def data_uri(path: Path) -> str:
    """Return a picture file of a run as a URI that holds it.

    Raises:
        InputError: it is no plain file, or too large.
    """
    kind = path.suffix.removeprefix(".")
    return f"data:image/{kind};base64,{base64.b64encode(read_plain(path, PICTURE)).decode()}"


def png_uri(data: bytes) -> str:
    """Return the bytes of a PNG as a URI."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def script_json(data: Any) -> str:
    """Return JSON that cannot close the script element around it."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _sprite(distilled: Distilled) -> tuple[torch.Tensor, bytes]:
    """Return which items are shown, evenly chosen, and all their pictures as one PNG."""
    count = len(distilled.images)
    chosen = _spaced(count, MOST_ITEMS)
    images = distilled.transform.whitening.invert(distilled.images[chosen], in_range=False)
    pictures = to_bytes(images)
    missing = -len(pictures) % COLUMNS
    padded = np.pad(pictures, ((0, missing), (0, 0), (0, 0), (0, 0)))
    _, h, w, _ = padded.shape
    rows = padded.reshape(-1, COLUMNS, h, w, 3).transpose(0, 2, 1, 3, 4)
    return chosen, to_png(to_image(rows.reshape(-1, COLUMNS * w, 3)))


def _spaced(count: int, most: int) -> torch.Tensor:
    """Return the numbers 0 to count - 1, or `most` of them, evenly spaced."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def _largest(row: list[float]) -> list[tuple[int, float]]:
    order = sorted(range(len(row)), key=lambda label: -row[label])[:MOST_BARS]
    return [(label, round(row[label], 4)) for label in order]


def _cells(
    distilled: Distilled,
    cells: torch.Tensor | None,
    corners: list[tuple[int, int]],
    factor: int,
) -> str:
    """Outline and name every cell; older artefacts have none."""
    parts = []
    for canvas, y0, x0, y1, x1, label in [] if cells is None else cells.tolist():
        top, left = corners[canvas]
        x, y, w, h = left + factor * x0, top + factor * y0, factor * (x1 - x0), factor * (y1 - y0)
        name = distilled.class_names[label]
        size = max(6, min(16, h / 5, 1.7 * w / max(len(name), 1)))
        parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}"/>'
            f'<text x="{x + 3}" y="{y + size + 1:.1f}" font-size="{size:.1f}">{escape(name)}</text>'
        )
    return "".join(parts)

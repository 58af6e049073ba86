"""The page in a browser: what pointer and finger show is what the artefact holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import distill_core
from distill_core.artefact.artefact import load
from distill_core.artefact.pictures import MIN_WIDTH, sheet, to_bytes
from distill_core.commands.run import run
from distill_core.config.run_config import resolve
from distill_core.config.settings import merge
from distill_core.system.files import read_tensors
from tests.distill_core.report.browser import Page, look
from tests.distill_core.small_run import SMALL, installed

RUNS: dict[str, dict[str, Any]] = {
    "poster": {"snapshots": 2},
    "cyclic": {"options": {"repr": {"patches": "2x5", "cyclic": True}}},
    "images": {"repr": "images", "labeler": "soft", "orderer": "identity", "ipc": 2},
    "coreset": {
        **{"repr": "coreset", "labeler": "onehot", "orderer": "identity", "algo": "none"},
        "ipc": 2,
    },
}
DROPPED = {"images": ("repr", "orderer"), "coreset": ("repr", "orderer", "algo")}
EVIL = (
    "<script>document.title='a'</script>",
    '"><img src=x onerror="document.title=1">',
    "</title></script><script>document.title='b'</script>",
    "cats & dogs &lt;b&gt;",
    "<!--<script>",
    "'onmouseover='document.title=2",
)

# Points (x, y, kind of event) in pixels of the picture; the event goes to what is there.
POINT = """
const picture = document.querySelector(".sheet img"), area = picture.getBoundingClientRect();
const patch = document.getElementById("patch"), box = document.getElementById("box");
return %s.map(([x, y, kind]) => {
  const clientX = area.left + x / picture.naturalWidth * area.width;
  const clientY = area.top + y / picture.naturalHeight * area.height;
  const target = document.elementFromPoint(clientX, clientY);
  target.dispatchEvent(new PointerEvent(kind, { clientX, clientY, bubbles: true }));
  const pixels = patch.getContext("2d").getImageData(0, 0, patch.width, patch.height).data;
  return { item: Number(document.body.dataset.item), pixels: [...pixels],
    bars: [...document.getElementById("bars").children].map((row) =>
      [row.children[0].textContent, Number(row.children[2].textContent),
       row.children[1].getBoundingClientRect().width / row.getBoundingClientRect().width]),
    box: ["x", "y", "width", "height"].map((name) => Number(box.getAttribute(name))) };
});"""
GRID = """
const grid = document.getElementById("grid"), cells = document.getElementById("cells");
const seen = () => [cells.getClientRects().length, getComputedStyle(cells).display];
const found = [seen()];
for (let k = 0; k < 2; k++) { grid.click(); found.push(seen()); }
return { found, labels: [...cells.querySelectorAll("text")].map((each) => each.textContent) };"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


def made(name: str, folder: Path) -> Path:
    """Return the directory of the run, which is made once."""
    path = folder / name
    if not path.exists():
        dropped = DROPPED.get(name, ())
        options = {kind: each for kind, each in SMALL["options"].items() if kind not in dropped}
        config = resolve(merge({**SMALL, "options": options}, RUNS[name]), installed())
        run(config, installed(), path, resume=False, overwrite=False, quiet=True)
    return path


@pytest.mark.parametrize("name", RUNS)
def test_the_centre_of_every_item_shows_it_with_its_label(
    name: str, folder: Path, tmp_path: Path
) -> None:
    path = made(name, folder)
    distilled = load(path)
    tensors, _ = read_tensors(distilled.path)
    count, _, height, width = tensors["pixels"].shape
    empty = np.zeros((count, height, width, 3), dtype=np.uint8)
    _, corners, factor = sheet(empty, MIN_WIDTH)
    points, boxes = [], []
    for k, (canvas, y0, x0, y1, x1) in enumerate(tensors["items"].tolist()):
        top, left = corners[canvas]
        y, x = (y0 + y1) / 2 % height, (x0 + x1) / 2 % width
        kind = "pointermove" if k % 2 else "pointerdown"
        points.append([left + factor * x, top + factor * y, kind])
        sides = [factor * (x1 - x0), factor * (y1 - y0)]
        boxes.append([left + factor * x0, top + factor * y0, *sides])
    _, found = look(path / "report.html", POINT % points, tmp_path)
    shown = to_bytes(distilled.transform.whitening.invert(distilled.images, in_range=False))
    for k, each in enumerate(found):
        assert each["item"] == k
        assert each["box"] == boxes[k]
        rgba = np.array(each["pixels"], dtype=np.uint8).reshape(*shown.shape[1:3], 4)
        assert np.array_equal(rgba[..., :3], shown[k])
        label = dict(zip(distilled.class_names, distilled.labels[k].tolist(), strict=True))
        assert len(each["bars"]) == min(10, len(label))
        assert [value for _, value, _ in each["bars"]] == pytest.approx(
            sorted(label.values(), reverse=True)[:10], abs=6e-4
        )
        for shown_name, value, _ in each["bars"]:
            assert value == pytest.approx(label[shown_name], abs=6e-4)
        widths = torch.tensor([bar for *_, bar in each["bars"]])
        values = torch.tensor([value for _, value, _ in each["bars"]])
        torch.testing.assert_close(widths * values[0], values * widths[0], atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", ["poster", "images"])
def test_the_class_grid_can_be_switched_off(name: str, folder: Path, tmp_path: Path) -> None:
    path = made(name, folder)
    tensors, _ = read_tensors(path / "distilled.safetensors", names=("cells",))
    _, seen = look(path / "report.html", GRID, tmp_path)
    (shown, on), (hidden, off), again = seen["found"]
    assert (shown, hidden) == (1, 0)
    assert (on, off) == ("inline", "none")
    assert again == [shown, on]
    names = load(path).class_names
    assert seen["labels"] == [names[row[-1]] for row in tensors["cells"].tolist()]


def test_class_names_and_folders_with_markup_stay_text(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
    options = {**SMALL["options"], "evaluate": SMALL["evaluate"]}
    options = {kind: each for kind, each in options.items() if kind != "dataset"}
    pages = {}
    for folder, names in (("plain", tuple("abcdef")), ("<img src=x>&amp;", EVIL)):
        out = tmp_path / folder
        distill_core.distill(
            **{"dataset": (images, np.arange(60) % 6), "class_names": names, "out": out},
            **{"representation": "poster", "labeler": "poddl", "orderer": "poco", "steps": 1},
            **{"algorithm": "ratbptt", "ipc": 0.8, "device": "cpu", "options": options},
        )
        pages[folder] = out / "report.html"
    plain, evil = (Page(path.read_text(encoding="utf-8")) for path in pages.values())
    assert [(tag, [*attrs]) for tag, attrs in evil.tags] == [
        (tag, [*attrs]) for tag, attrs in plain.tags
    ]
    (shown,) = [text for text in evil.text if text.startswith("A row for each image")]
    assert all(name in shown for name in EVIL)
    title, bars = look(
        pages["<img src=x>&amp;"],
        "return [...document.querySelectorAll('#bars b')].map((each) => each.textContent);",
        tmp_path,
    )
    assert title == "<img src=x>&amp;"
    assert sorted(bars) == sorted(EVIL)

"""How much colours change between classes, by plain loops and where it is known."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.distill_core.cli.fakes import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from paper import arguments, report
from paper_book import keep
from paper_borders import borders_of, changes
from paper_cells import PARTS

RUN = ROOT / "tests/fixtures/run-v1"  # 2x3 classes on 14x21 pixels


def test_classes_of_one_colour_change_at_their_borders_alone() -> None:
    pixels = np.kron(np.array([[0.0, 30.0, 10.0], [80.0, 110.0, 90.0]]), np.ones((4, 5)))
    beside, below = changes(pixels[..., None].repeat(3, axis=2), rows=2, cols=3)
    assert beside == (25, 0)
    assert below == (80, 0)


def test_a_ramp_changes_everywhere_alike() -> None:
    ramp = np.arange(12.0)[None, :, None].repeat(6, axis=0)
    beside, below = changes(ramp, rows=2, cols=4)
    assert beside == (1, 1)
    assert below == (0, 0)


def test_a_run_is_measured_as_by_plain_loops(tmp_path: Path) -> None:
    with Image.open(RUN / "poster.png") as picture:
        small = picture.convert("RGB").resize((21, 14), Image.Resampling.NEAREST)
    levels = [[small.getpixel((x, y)) for x in range(21)] for y in range(14)]

    def mean(pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> float:
        each = [abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True)]
        return sum(each) / len(each)

    right = [(x // 7 != (x + 1) // 7, levels[y][x : x + 2]) for y in range(14) for x in range(20)]
    down = [
        (y // 7 != (y + 1) // 7, (levels[y][x], levels[y + 1][x]))
        for y in range(13)
        for x in range(21)
    ]
    said = [mean([pair for border, pair in found if border is on]) for found, on in
            ((right, True), (right, False), (down, True), (down, False))]  # fmt: skip
    text = borders_of(RUN)
    for number in said:
        assert f"{number:.1f}" in text
    assert text.index(f"by {said[0]:.1f}") < text.index(f"by {said[2]:.1f} and {said[3]:.1f}")


def test_figure_8_has_the_picture_and_its_changes_of_finished_runs_of_its_scale(
    tmp_path: Path,
) -> None:
    words = ["--out", str(tmp_path), "--book", str(tmp_path / "book.json"), "--steps", "1000"]
    part, args = arguments(["--figure", "8", "--data", "cifar10=c10.zip", *words])
    (cell,) = PARTS[part](args)
    for run in (f"{cell.key}-1000-steps-0", f"{cell.key}-1000-steps-1", f"{cell.key}-9-steps-0"):
        shutil.copytree(RUN, tmp_path / run)
    kept = {"cell": cell.key, "steps": 1, "seconds": 60, "curve": [], "test": [50.0], "seed": 0}
    for scale in ("1000 steps", "9 steps"):
        keep(args.book, {**kept, "scale": scale})
    lines = list(report(part, [cell], args))
    pictures = [line for line in lines if line.startswith("picture: ")]
    assert pictures == [f"picture: {tmp_path}/figure-8-{cell.key}-1000-steps-0.png"]
    assert Path(pictures[0].partition(": ")[2]).is_file()
    assert lines[-1] == borders_of(RUN)

"""The Python of docs/guide/use-the-result.md runs, top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from distill_core.artefact import save_artefact
from distill_core.export import export
from distill_core.recipe import Recipe
from distill_core.testing.small import poster_layout, small_data
from tests.distill_core.conftest import MakeSynthetic

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "use-the-result.md"


def test_the_guide_runs(
    make_synthetic: MakeSynthetic,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = small_data(6)
    synthetic = make_synthetic(real, poster_layout())
    run_dir = tmp_path / "runs" / "NAME"
    recipe = Recipe(steps=5, batch_size=8)
    save_artefact(run_dir, synthetic, real=real, recipe=recipe, manifest={})
    export(run_dir, run_dir / "export" / "tensors", "tensors")
    monkeypatch.chdir(tmp_path)
    picture = Image.new("RGB", (20, 20), (200, 10, 10))
    (tmp_path / "my_test_images" / "a").mkdir(parents=True)
    picture.save(tmp_path / "my_test_images" / "a" / "1.png")
    names = {"network": nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), "picture": picture}
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    assert capsys.readouterr().out.strip() in real.spec.class_names
    assert torch.equal(names["images"], synthetic.all().images.detach())
    assert names["test"][0][0].shape == (3, 8, 8)
    assert (tmp_path / "labels.pt").exists()

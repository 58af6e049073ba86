"""Everything that reads real images also works where they are kept in half precision."""

from __future__ import annotations

import json

import pytest
import torch

from distill_core.commands import run as run_command
from distill_core.data.initial_pixels import draw_real
from distill_core.layout.ordering import class_means
from distill_core.run.assemble import load_real
from tests.distill_core.small_run import installed, small_config

HALF = {"storage": "float16"}


@pytest.mark.parametrize("orderer", ["poco", "photometric"])
@pytest.mark.parametrize("init", ["noise", "real"])
def test_a_whole_run_with_its_controls(tmp_path, orderer, init):
    kinds = {"orderer": {"similarity": "image"}} if orderer == "poco" else {}
    config = small_config(
        orderer=orderer, data=HALF, steps=2, options={**kinds, "repr": {"init": init}}
    )
    results = run_command.run(config, installed(), tmp_path / "run", resume=False, overwrite=False)
    assert set(results) == {"distilled", "random", "full"}
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["outer_steps"] == 2


def test_means_and_draws_are_float32_and_near():
    full = load_real(small_config(), installed())
    half = load_real(small_config(data=HALF), installed())
    torch.testing.assert_close(class_means(half), class_means(full), atol=1e-3, rtol=1e-3)
    classes = torch.arange(6)
    drawn, expected = (
        draw_real(real, classes, generator=torch.Generator().manual_seed(0))
        for real in (half, full)
    )
    assert drawn.dtype == torch.float32
    torch.testing.assert_close(drawn, expected, atol=1e-3, rtol=1e-3)

"""The baseline of the benchmark computes what the engine computes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def setting() -> Iterator[ModuleType]:
    """benchmarks/setting.py, which is in no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import setting as module

        yield module
    for name in ("setting", "graph_unroll"):
        sys.modules.pop(name, None)


def small(setting: ModuleType, **changes: int) -> ModuleType:
    sizes = {"classes": 4, "side": 8, "poster": "16x16", "patches": "3x3", "width": 4, "depth": 2}
    sizes |= {"batch": 5, "warm_up": 2, "window": 3, "real": 11} | changes
    return setting.Setting.make(setting.Sizes(**sizes), torch.float64)


@pytest.mark.parametrize("path", ["kernels64", "autograd64"])
@pytest.mark.parametrize("changes", [{}, {"warm_up": 0}, {"batch": 96}, {"window": 1}])
def test_the_baseline_has_the_engine_s_hypergradient(
    setting: ModuleType, path: str, changes: dict[str, int]
) -> None:
    made = small(setting, **changes)
    losses, found = [], []
    for each in ("graph", path):
        losses.append(made.outer_step(each, seed=3))
        found.append(made.hypergradient())
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    assert set(found[0]) == {"data", "labels"}
    for group, expected in found[0].items():
        scale = float(expected.abs().max())
        assert scale > 0
        torch.testing.assert_close(found[1][group], expected, rtol=0, atol=1e-8 * scale)

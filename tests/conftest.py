"""What all tests share: one thread, no deadlines, small real data, and the folder of big data."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from distill_core.config.sections import DataOptions
from distill_core.contracts.data import DataSpec, RawData, RealData
from distill_core.data.prepare import prepare
from tests.caches import own_cache

# Under nohup it is ignored, and would be in every process that is started here.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the commands, which set the threads of the process
os.environ["DISTILL_CACHE"] = str(own_cache())
settings.register_profile("distill", deadline=None, max_examples=50, print_blob=True)
settings.load_profile("distill")

MakeReal = Callable[..., RealData]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker of `-n` a run of neighbours, so that fixtures of a module are made once.

    One that has finished takes half of what another has left. Without this, neighbours go to the
    workers in turn, and each of these makes every fixture.
    """
    if config.getoption("dist") != "load":  # what -n means by itself; another choice is kept
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def _make_real(
    num_classes: int = 4,
    image_shape: tuple[int, int, int] = (1, 8, 8),
    per_class: int = 5,
    seed: int = 0,
    class_names: tuple[str, ...] | None = None,
) -> RealData:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_classes).repeat(per_class)
    pattern = torch.randint(0, 200, (num_classes, *image_shape), generator=generator)
    noise = torch.randint(0, 56, (len(labels), *image_shape), generator=generator)
    images = (pattern[labels] + noise).to(torch.uint8)
    names = class_names or tuple(f"class_{label}" for label in range(num_classes))
    spec = DataSpec("made", names, image_shape, ("flip", "rotate"))
    raw = RawData(spec, images, labels, images, labels)
    options = DataOptions(whitening="standardise", validation=0)
    return prepare(raw, options, seed=seed, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def make_real() -> MakeReal:
    """`make_real(num_classes, image_shape, per_class, seed)`: random patterns, one per class."""
    return _make_real


@pytest.fixture(scope="session")
def test_data() -> Callable[[str], Path]:
    """`test_data("clip/cifar10.npz")`: a file of the shared data, or skip where it is absent."""

    def find(name: str) -> Path:
        beside = Path(__file__).parents[2] / "shared" / "data"
        file = Path(os.environ.get("DISTILL_TEST_DATA", beside)) / name
        if not file.exists():
            pytest.skip(f"{name} is in neither $DISTILL_TEST_DATA nor ../shared/data")
        return file

    return find

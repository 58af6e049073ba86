"""Every component on a second device: the CPU's numbers, and nothing that CUDA would refuse.

The components are those of the catalogues, so a new one is tried by existing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.config.run_config import RunConfig
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.streams import seeded
from distill_core.data.augment import Augmentation
from distill_core.run.assemble import assemble
from distill_core.run.loop import OuterLoop
from distill_core.training import train as training
from tests.caches import make_cache
from tests.distill_core.small_run import small_config
from tests.matrix import PAGE, PLUGINS, QUICK, RUNS, Cell, configured, read, run
from tests.second_device import Log, on_cpu, second_device

MATRIX = read(PAGE.read_text(encoding="utf-8"))
LEARNING = [name for name in PLUGINS["algorithm"].names() if name != "none"]
CELLS: list[Cell] = [
    # Where labels are not learned, with labels that nobody learns.
    next(cell for cell in ((representation, each, name) for each in (labeler, "onehot"))
         if MATRIX[cell] == RUNS)
    for name in LEARNING
    for representation, labeler in (("poster", "poddl"), ("images", "soft"))
]  # fmt: skip
# Of an outer step, with its update and all checks, whatever the length of its loops; the most
# copies has dsa where it also trains a network.
MOST_WAITS, MOST_COPIES = 10, 11


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Expert trajectories are made once for all, on the device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_CACHE", str(make_cache(tmp_path_factory.mktemp("cache"))))
        yield


def quick(cell: Cell, steps: int) -> RunConfig:
    """Return the small run of a combination, without a long search for a rate."""
    config = configured(cell, steps)
    if cell[2] != "rcig":
        return config
    algo = config.options["algo"].model_copy(update={"inner_lr": 100.0, "inverse_lr": 100.0})
    return config.model_copy(update={"options": config.options | {"algo": algo}})


def placed(config: RunConfig, device: str, *, chunk: int | None = None) -> RunConfig:
    """Compute by autograd on a device; the kernels are those of the CPU."""
    changes: dict[str, Any] = {"path": "autograd"}
    if chunk:
        changes["real_chunk"] = chunk
    engine = config.engine.model_copy(update=changes)
    return config.model_copy(update={"device": device, "engine": engine})


def outer_steps(config: RunConfig, folder: Path, log: Log) -> list[dict[str, int]]:
    """Make the outer steps of a run, and count each."""
    found = []

    class Counting(OuterLoop):
        def _outer_step(self) -> None:
            log.clear()
            super()._outer_step()
            found.append(log.counts())

    loop = Counting(assemble(config, PLUGINS), folder)
    loop._watched = True  # watching reads on purpose
    assert loop.run()
    return found


def agrees(log: Log) -> None:
    """Nothing happened that CUDA would refuse, or that differs between devices."""
    assert not log.mismatches
    assert not log.draws


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_an_algorithm_and_its_resumption(cell: Cell, tmp_path: Path) -> None:
    with second_device() as log:
        run(placed(quick(cell, 1), "meta"), tmp_path / "there")
        there = run(placed(quick(cell, 2), "meta"), tmp_path / "there", go_on=True)
        state = on_cpu(dict(there.assembly.synthetic.state_dict()))
        meta = on_cpu([each.data for each in there.assembly.algorithm.meta_parameters()])
    agrees(log)
    here = run(placed(quick(cell, 2), "cpu"), tmp_path / "here")
    for name, value in here.assembly.synthetic.state_dict().items():
        assert torch.equal(state[name], value), name
    for found, expected in zip(meta, here.assembly.algorithm.meta_parameters(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("cell", CELLS[::2], ids="-".join)
def test_what_an_outer_step_waits_for_and_copies(cell: Cell, tmp_path: Path) -> None:
    with second_device() as log:
        # The first of some looks for a rate, or fills a pool; the second trains a network.
        _, *counts = outer_steps(placed(quick(cell, 3), "meta", chunk=5), tmp_path, log)
    for each in counts:
        assert each["waits"] <= MOST_WAITS
        assert each["copies"] <= MOST_COPIES


@pytest.mark.parametrize("balanced", [False, True])
def test_waits_and_copies_do_not_grow_with_steps_or_chunks(balanced: bool, tmp_path: Path) -> None:
    counts = []
    for warm_up, window, chunk in ((4, 3, 8), (7, 5, 4)):
        quick = QUICK["ratbptt"] | {"curriculum": "fixed", "balanced": balanced}
        config = small_config(
            steps=1,
            options={"algo": {**quick, "window": window, "total": warm_up + window}},
        )
        with second_device() as log:
            (found,) = outer_steps(placed(config, "meta", chunk=chunk), tmp_path / str(chunk), log)
        counts.append((found["waits"], found["copies"]))
    assert counts[0] == counts[1]
    assert counts[0][0] <= MOST_WAITS
    assert counts[0][1] <= MOST_COPIES


@pytest.mark.parametrize(
    "orderer", [name for name in PLUGINS["orderer"].names() if name not in ("given", "published")]
)
def test_an_orderer(orderer: str) -> None:
    given = small_config().options["orderer"]
    options = given if orderer == "poco" else PLUGINS["orderer"].check(orderer, {})
    config = small_config().model_copy(
        update={"orderer": orderer, "options": small_config().options | {"orderer": options}}
    )
    here = assemble(placed(config, "cpu"), PLUGINS).placement.class_grid
    with second_device() as log:
        there = assemble(placed(config, "meta"), PLUGINS).placement.class_grid
        agrees(log)
        assert there.device.type == "cpu"
    assert torch.equal(here, there)


@pytest.mark.parametrize("labeler", PLUGINS["labeler"].names())
@pytest.mark.parametrize("representation", PLUGINS["representation"].names())
def test_a_representation_with_a_labeler(representation: str, labeler: str) -> None:
    config = configured((representation, labeler, "none"), 1)

    def items(device: str) -> list[Tensor]:
        synthetic = assemble(placed(config, device), PLUGINS).synthetic
        some = synthetic.draw(4, generator=seeded(0), balanced=True)
        copied = [each.detach() for each in (*synthetic.all(), *synthetic.at(some))]
        return on_cpu(copied) if device == "meta" else copied

    with second_device() as log:
        there = items("meta")
    agrees(log)
    for one, other in zip(there, items("cpu"), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("size", [4, 100])
def test_training_and_testing(optimizer: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The CPU would take its kernels, which round sums differently.
    monkeypatch.setattr(training, "network_logits", lambda backbone, device: backbone)
    steps, batches = 6, Augmentation.named("dsa", ("color", "crop", "cutout", "flip", "rotate"))
    recipe = Recipe(optimizer=optimizer, lr=0.01, batch_size=size, steps=steps, augment="dsa")
    config = small_config()

    def trained(device: str, clear: Callable[[], None]) -> tuple[list[Tensor], float]:
        assembly = assemble(placed(config, device), PLUGINS)
        images, labels = (part.detach() for part in assembly.synthetic.all())
        network = assembly.make_backbone(seeded(0))
        clear()
        training.train(network, images, labels, recipe, augmentation=batches, generator=seeded(1))
        result = [each.detach() for each in network.parameters()]
        return (on_cpu(result) if device == "meta" else result), training.accuracy(
            network, assembly.real.test
        )

    with second_device() as log:
        there = trained("meta", log.clear)
        counts = log.counts()
    agrees(log)
    assert counts["waits"] == 1  # the accuracy, once
    assert counts["copies"] <= 2
    here = trained("cpu", lambda: None)
    assert here[1] == there[1]
    assert all(torch.equal(one, other) for one, other in zip(here[0], there[0], strict=True))

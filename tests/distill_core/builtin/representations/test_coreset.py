"""Coresets: real images of the right class, within the budget; and runs that learn nothing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.builtin.representations.coreset import Coreset
from distill_core.builtin.representations.options import CoresetOptions
from distill_core.contracts.data import RealData
from distill_core.contracts.geometry import Placement
from distill_core.contracts.streams import seeded
from distill_core.evaluation.baselines import downscale
from distill_core.run.assemble import assemble
from distill_core.run.loop import OuterLoop
from distill_core.testing import check_representation
from registry import InputError, check_options
from tests.distill_core.cli.small_args import distill
from tests.distill_core.small_run import installed, small_assembly, small_config

METHODS: list[dict[str, Any]] = [
    {"method": "random"},
    {"method": "herding"},
    {"method": "kcenter"},
    {"method": "kcenter", "features": "network", "epochs": 1, "width": 4},
    {"method": "forgetting", "epochs": 2, "width": 4},
]
CORESET: dict[str, Any] = {
    "repr": "coreset",
    "labeler": "onehot",
    "orderer": "identity",
    "algo": "none",
    "ipc": 2,
    "options": {"repr": {"method": "herding"}, "algo": {"steps": 4}},
}


def coreset(real: RealData, ipc: float | None = None, *, seed: int = 0, **settings: Any) -> Coreset:
    options = check_options(CoresetOptions, settings, where="repr")
    made = Coreset(options, spec=real.spec, ipc=ipc)
    order = torch.arange(real.spec.num_classes).flip(0).reshape(made.layout.grid_shape)
    made.placed = Placement(made.layout, order)
    made.reset(made.placed, real, generator=seeded(seed, "init"))
    return made


@pytest.mark.parametrize("settings", METHODS)
def test_every_image_is_a_real_one_of_its_class(settings, make_real) -> None:
    real = make_real(6, (3, 8, 8), per_class=9)
    made = coreset(real, 3, **settings)
    found = []
    for image, label in zip(made.canvases(), made.placed.cell_class.tolist(), strict=True):
        same = (real.train.images == image).all(dim=(1, 2, 3)) & (real.train.labels == label)
        found.append(int(same.nonzero()))
    assert len(set(found)) == 18
    assert torch.equal(made.canvases(), coreset(real, 3, **settings).canvases())
    if settings["method"] == "random":
        assert not torch.equal(made.canvases(), coreset(real, 3, seed=1, **settings).canvases())


def test_a_small_class_gives_its_images_again(make_real) -> None:
    real = make_real(6, (3, 8, 8), per_class=2)
    size = int((real.train.labels == 0).sum())
    made = coreset(real, 3, method="herding")
    images = made.canvases()[made.placed.cell_class == 0]
    assert len(images.unique(dim=0)) == min(size, 3)


@pytest.mark.parametrize(("ipc", "settings", "stored"), [
    (0.25, {}, (6, 3, 4, 4)), (0.5, {}, (6, 3, 5, 5)), (1, {"per_class": 4}, (24, 3, 4, 4))
])  # fmt: skip
def test_below_one_image_it_is_stored_smaller_as_in_the_control(
    ipc, settings, stored, make_real
) -> None:
    real = make_real(6, (3, 8, 8), per_class=9)
    made = coreset(real, ipc, method="herding", **settings)
    assert {name: tuple(t.shape) for name, t in made.state_dict().items()} == {"pixels": stored}
    assert made.pixels.numel() <= ipc * 6 * 3 * 8 * 8
    whole = coreset(real, made.budget.per_class, method="herding").canvases()
    expected = downscale(whole, made.budget, real.whitening)
    assert torch.allclose(made.canvases(), expected, atol=1e-6)


@pytest.mark.parametrize("settings", [*METHODS, {"per_class": 2}])
def test_it_keeps_the_contract(settings) -> None:
    options = check_options(CoresetOptions, settings, where="repr")
    check_representation(partial(Coreset, options), name="coreset")


def test_there_is_nothing_to_learn_in_a_coreset() -> None:
    with pytest.raises(InputError) as caught:
        small_assembly(**{**CORESET, "algo": "ratbptt", "options": {}})
    assert caught.value.what.startswith("there is nothing to learn: neither representation 'cor")
    assert "--algo none" in caught.value.next


def test_but_labels_can_be_learned(tmp_path: Path) -> None:
    settings = {"window": 2, "total": 3, "batch": 8, "real_batch": 16}
    changes = {**CORESET, "algo": "ratbptt", "labeler": "soft", "options": {"algo": settings}}
    loop = OuterLoop(small_assembly(**changes, steps=1), tmp_path)
    assert list(loop.groups) == ["labels"]
    before = loop.assembly.synthetic.all()
    loop.run()
    after = loop.assembly.synthetic.all()
    assert torch.equal(before.images, after.images)
    assert not torch.equal(before.labels, after.labels)


def test_a_run_that_learns_nothing_is_saved_and_resumed(tmp_path: Path) -> None:
    loop = OuterLoop(assemble(small_config(**CORESET, ema=0.9), installed()), tmp_path)
    before = {name: t.clone() for name, t in loop.assembly.synthetic.state_dict().items()}
    assert loop.run()
    assert (loop.step, loop.optimizer, loop.groups) == (0, None, {})
    again = OuterLoop(small_assembly(**CORESET, ema=0.9), tmp_path)
    again.load_state_dict(loop.state_dict())
    for name, tensor in again.result.synthetic.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_command_line_judges_a_coreset(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "coreset"
    words = "run --repr coreset --labeler onehot --orderer identity --algo none --dataset shapes"
    args = [*words.split(), "--ipc", "0.5", "--out", str(out)]
    small = {"dataset.classes": 6, "dataset.size": 8, "dataset.train_per_class": 6}
    small |= {"dataset.test_per_class": 3, "backbone.width": 4, "backbone.depth": 1}
    small |= {"algo.steps": 3, "evaluate.nets": 1, "evaluate.full_steps": 2}
    for name, value in {**small, "repr.method": "herding"}.items():
        args += ["-o", f"{name}={value}"]
    preview = distill(*args, "--dry-run")
    assert "no outer steps: algorithm 'none' learns nothing" in preview.output
    result = distill(*args)
    assert result.exit_code == 0, result.output
    assert "distilled in 0 outer steps" in result.output
    record = json.loads((out / "manifest.json").read_text())
    assert record["outer_steps"] == 0
    # Scaled down, so equal pixels of real images are not as many bytes.
    assert set(record["results"]) == {"distilled", "random", "random_bytes", "full"}

"""A teacher labels the starting images once; its labels are the same wherever they are used."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.func import functional_call

import distill_core
from distill_core.builtin.labelers.options import TeacherOptions
from distill_core.builtin.labelers.teacher import Teacher
from distill_core.commands import run as run_command
from distill_core.contracts.geometry import Boxes
from distill_core.run.assemble import Assembly, assemble
from distill_core.testing.small import placements, poster_layout
from distill_core.training import expert_cache as experts_store
from registry import InputError
from tests.distill_core.cli.small_args import arguments, distill
from tests.distill_core.small_run import installed, small_assembly, small_config

TEACHER: dict[str, Any] = {
    "labeler": "teacher",
    "options": {"repr": {"init": "real"}, "labeler": {"epochs": 2, "batch": 5, "lr": 0.1}},
}


def teacher_run(**changes: Any) -> Assembly:
    return small_assembly(**{**TEACHER, **changes})


def expected_rows(assembly: Assembly, cache: Path, epoch: int = 2) -> Tensor:
    """The softmax of a fresh network with the kept parameters, by hand."""
    (path,) = (cache / "experts").rglob("*.safetensors")
    theta = load_file(path)[f"epoch.{epoch}"]
    network = assembly.make_backbone(torch.Generator().manual_seed(5)).eval()
    parameters, start = {}, 0
    for name, parameter in network.named_parameters():
        size = parameter.numel()
        parameters[name] = theta[start : start + size].view_as(parameter)
        start += size
    assert start == len(theta)
    layout = assembly.placement.layout
    canvases = assembly.synthetic.representation.canvases().detach()
    images = torch.stack(
        [
            canvases[canvas, :, y0:y1, x0:x1]
            for canvas, (y0, x0, y1, x1) in zip(
                layout.items.canvas.tolist(), layout.items.yxyx.tolist(), strict=True
            )
        ]
    )
    exponentials = functional_call(network, parameters, (images,)).detach().exp()
    return exponentials / exponentials.sum(1, keepdim=True)


@pytest.mark.parametrize("changes", [{}, {"repr": "images", "ipc": 1}], ids=["poster", "images"])
def test_labels_are_what_the_expert_makes_of_the_starting_images(
    own_cache: Path, changes: dict[str, Any]
) -> None:
    assembly = teacher_run(**changes)
    wanted = expected_rows(assembly, own_cache)
    labels = assembly.synthetic.all().labels
    torch.testing.assert_close(labels, wanted, rtol=1e-5, atol=1e-6)
    assert float((labels - 1 / 6).abs().max()) > 0.05  # it has learned something
    with torch.no_grad():
        for parameter in assembly.synthetic.parameters():
            parameter.add_(1.0)
    assert torch.equal(assembly.synthetic.all().labels, labels)  # fixed, whatever the pixels
    assert "labels" not in assembly.synthetic.groups()


def test_every_row_is_in_the_budget(own_cache: Path) -> None:
    budget = teacher_run().synthetic.budget()
    assert budget.label_numbers == 10 * 6
    assert budget.label_rows == 10 * 6 / 6**2


def test_the_global_random_state_is_left_alone(own_cache: Path) -> None:
    def states() -> tuple[Any, ...]:
        numpy_state = np.random.get_state()  # noqa: NPY002 (the global state is watched)
        return torch.get_rng_state().tolist(), str(numpy_state), random.getstate()

    before = states()
    first = teacher_run().synthetic.labeler.state_dict()["rows"]
    assert states() == before
    torch.manual_seed(7)
    for path in (own_cache / "experts").rglob("*.safetensors"):
        path.unlink()
    assert torch.equal(teacher_run().synthetic.labeler.state_dict()["rows"], first)


def test_a_run_that_goes_on_has_its_labels_and_trains_no_teacher(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(steps: int, out: Path, *, resume: bool = False) -> dict[str, Tensor]:
        changes = {"steps": steps, "evaluate": {"nets": 1, "controls": False}}
        config = small_config(**TEACHER, **changes)
        run_command.run(config, installed(), out, resume=resume, overwrite=False, quiet=True)
        return load_file(out / "distilled.safetensors")

    whole = go(2, tmp_path / "whole")
    rows = expected_start(own_cache)
    torch.testing.assert_close(whole["labels"], rows, rtol=0, atol=0)
    assert torch.equal(distill_core.load(tmp_path / "whole").labels, rows)
    go(1, tmp_path / "parts")

    def none(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a teacher was trained")

    for path in (own_cache / "experts").rglob("*.safetensors"):
        path.unlink()
    monkeypatch.setattr(experts_store, "train_expert", none)
    parts = go(2, tmp_path / "parts", resume=True)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    manifest = json.loads((tmp_path / "parts" / "manifest.json").read_text())
    assert manifest["budget"]["label_numbers"] == 60


def expected_start(own_cache: Path) -> Tensor:
    assembly = teacher_run()
    torch.testing.assert_close(
        assembly.synthetic.all().labels, expected_rows(assembly, own_cache), rtol=1e-5, atol=1e-6
    )
    return assembly.synthetic.all().labels


def test_a_prediction_of_cost_trains_nothing(own_cache: Path, tmp_path: Path) -> None:
    args = arguments(tmp_path / "none", "--dry-run", "--labeler", "teacher")
    result = distill(*args)
    assert result.exit_code == 0, result.output
    assert "labels   labeler 'teacher' looks at the starting images when the run" in result.output
    assert "60 label numbers" in result.output
    assert not (own_cache / "experts").exists()


def test_it_says_what_it_is_meant_for(own_cache: Path) -> None:
    lines: list[str] = []
    assemble(small_config(**TEACHER), installed(), tell=lines.append)
    assert lines[0].startswith("experts  0 of 1 are there; 1 to make, 2 epochs each")
    assert lines[-1].startswith("labels   by a teacher of 2 epochs")
    assert lines[-1].endswith("meant for real ones (-o repr.init=real)")


def test_batch_normalisation_is_refused_before_any_work(own_cache: Path) -> None:
    settings = {**TEACHER, "options": {**TEACHER["options"], "backbone": {"norm": "batch"}}}
    with pytest.raises(InputError, match="cannot be applied to images") as caught:
        small_assembly(**settings)
    assert "backbone.norm=instance" in str(caught.value)
    assert not (own_cache / "experts").exists()


def test_boxes_that_are_no_items_are_refused() -> None:
    labeler = Teacher(TeacherOptions(), placement=placements()["a poster"])
    drawn = Boxes(torch.tensor([0]), torch.tensor([[0, 0, 8, 8]]), torch.tensor([-1]))
    with pytest.raises(
        InputError, match=r"labeler 'teacher' has a label .* boxes that are not training images"
    ):
        labeler.labels(drawn, torch.zeros(1, 3, 8, 8))
    items = poster_layout().items
    assert labeler.labels(items, torch.zeros(len(items), 3, 8, 8)).shape == (len(items), 6)


@pytest.mark.parametrize(("side", "lr", "batch"), [(32, 0.01, 256), (64, 0.01, 256), (8, 0.05, 32)])
def test_the_teacher_is_trained_as_the_experts_of_mtt(side: int, lr: float, batch: int) -> None:
    found = TeacherOptions().recipe(side)
    assert found == {"lr": lr, "batch": batch, "augment": "dsa"}
    assert TeacherOptions(lr=0.3, batch=7, augment="none").recipe(side) == {
        "lr": 0.3,
        "batch": 7,
        "augment": "none",
    }

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator

from distill_core.contracts.experts import ExpertRecipe
from distill_core.contracts.network import Backbone
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.system.files import read_tensors, write_tensors
from distill_core.testing.small import TinyBackbone, small_data
from distill_core.training import expert_cache
from distill_core.training.expert_cache import Experts
from registry import InputError

RECIPE = ExpertRecipe(batch=30)


def store(folder: Path | None, **changes: Any) -> Experts:
    real = small_data()

    def fresh(generator: Generator) -> Backbone:
        return new_backbone(lambda: TinyBackbone(spec=real.spec), generator, torch.device("cpu"))

    settings: dict[str, Any] = {"backbone": {"name": "tiny"}, "seed": 0, **changes}
    return Experts(real, fresh, Engine(), folder=folder, **settings)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_kept_is_what_was_made(tmp_path: Path) -> None:
    lines: list[str] = []
    store(tmp_path).prepare(RECIPE, 3, epochs=2, tell=lines.append)
    assert [path.name for path in files(tmp_path)] == [f"000{i}.safetensors" for i in range(3)]
    assert lines[0].startswith("experts  0 of 3 are there; 3 to make, 2 epochs each: about ")
    assert str(tmp_path) in lines[0]
    assert lines[-1] == "experts  3/3  0 s left"
    for index in range(3):
        kept = store(tmp_path).snapshots(RECIPE, index, [0, 2], until=2)
        in_memory = store(None).snapshots(RECIPE, index, [0, 2], until=2)
        assert all(map(torch.equal, kept, in_memory))
    first, second = (store(tmp_path).snapshots(RECIPE, i, [0], until=2)[0] for i in (0, 1))
    assert not torch.equal(first, second)
    lines.clear()
    store(tmp_path).prepare(RECIPE, 3, epochs=2, tell=lines.append)
    assert lines == []


def test_an_interrupted_preparation_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    train = expert_cache.train_expert

    def ends_in_the_third(*args: Any, **kwargs: Any) -> Any:
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(expert_cache, "train_expert", ends_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path).prepare(RECIPE, 4, epochs=1, tell=lambda line: None)
    kept = {path: path.stat().st_mtime_ns for path in files(tmp_path)}
    assert len(kept) == 2
    store(tmp_path).prepare(RECIPE, 4, epochs=1, tell=lambda line: None)
    assert len(made) == 5  # two, the one that was ended, and the two that were missing
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_garbled_or_shorter_file_is_made_again(tmp_path: Path) -> None:
    def last(epochs: int) -> torch.Tensor:
        return store(tmp_path).snapshots(RECIPE, 0, [epochs], until=epochs)[0]

    expected = last(1)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(last(1), expected)
    last(2)
    before = path.stat().st_mtime_ns
    assert torch.equal(last(1), expected)  # served by the longer one
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda theta: theta[:-1],
        lambda theta: theta.double(),
        lambda theta: theta.half(),
        lambda theta: theta.clone().fill_(torch.nan),
        lambda theta: theta + 1e-6,
        None,
    ],
    ids=["short", "double", "half", "nan", "changed", "absent"],
)
def test_a_file_that_holds_something_else_is_made_anew(
    tmp_path: Path,
    damage: Callable[[torch.Tensor], torch.Tensor] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store(tmp_path).snapshots(RECIPE, 0, [1], until=1)
    (path,) = files(tmp_path)
    tensors, record = read_tensors(path)
    theta = tensors.pop("epoch.1")
    write_tensors(path, tensors | ({"epoch.1": damage(theta)} if damage else {}), record)
    for _ in range(2):  # the second time there is nothing to tell
        (again,) = store(tmp_path).snapshots(RECIPE, 0, [1], until=1)
        assert torch.equal(again, theta)
    (line,) = caplog.messages
    assert str(path) in line
    assert line.endswith("it is made anew")


def test_another_experts_file_in_its_place_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (store(tmp_path).snapshots(RECIPE, k, [1], until=1)[0] for k in (0, 1))
    one, other = files(tmp_path)
    one.write_bytes(other.read_bytes())
    (again,) = store(tmp_path).snapshots(RECIPE, 0, [1], until=1)
    assert torch.equal(again, first)
    assert not torch.equal(again, second)
    assert "is not a whole file of this expert: it is made anew" in caplog.text


def test_an_expert_of_an_earlier_version_is_taken_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = store(tmp_path).snapshots(RECIPE, 0, [1], until=1)
    (path,) = files(tmp_path)
    tensors, record = read_tensors(path)
    del record["sha256"]
    write_tensors(path, tensors, record)
    experts = store(tmp_path)
    for _ in range(2):
        assert all(map(torch.equal, made, experts.snapshots(RECIPE, 0, [1], until=1)))
    (line,) = caplog.messages
    assert "have no digests" in line


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        (RECIPE, {"seed": 1}),
        (RECIPE, {"backbone": {"name": "tiny", "options": {"width": 2}}}),
        (RECIPE.model_copy(update={"lr": 0.02}), {}),
        (RECIPE.model_copy(update={"rho": 0.01}), {}),
    ],
)
def test_everything_they_depend_on_is_in_the_key(
    tmp_path: Path, recipe: ExpertRecipe, changes: dict[str, Any]
) -> None:
    store(tmp_path).snapshots(RECIPE, 0, [1], until=1)
    store(tmp_path, **changes).snapshots(recipe, 0, [1], until=1)
    assert len(files(tmp_path)) == 2


def test_what_an_expert_makes_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network of PyTorch with its parameters, whole or in parts; made when it is missing."""
    lines: list[str] = []
    experts = store(tmp_path)
    images = torch.randn(7, 3, 8, 8, generator=Generator().manual_seed(0), dtype=torch.float64)
    state = torch.get_rng_state()
    found = experts.logits(RECIPE, 1, 2, images, tell=lines.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    assert [path.name for path in files(tmp_path)] == ["0000.safetensors", "0001.safetensors"]
    assert lines[0].startswith("experts  0 of 2 are there")
    network = TinyBackbone(spec=experts.real.spec)
    (theta,) = experts.snapshots(RECIPE, 1, [2], until=2)
    torch.nn.utils.vector_to_parameters(theta, network.parameters())
    torch.testing.assert_close(found, network.double()(images).detach(), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(expert_cache, "CHUNK", 3)
    told = len(lines)
    again = experts.logits(RECIPE, 1, 2, images, tell=lines.append)
    torch.testing.assert_close(again, found)
    assert len(lines) == told  # nothing more to make


def test_training_that_explodes_is_refused(tmp_path: Path) -> None:
    wild = RECIPE.model_copy(update={"lr": 1e30})
    with pytest.raises(InputError, match=r"rate 1e\+30 diverged") as caught:
        store(tmp_path).snapshots(wild, 0, [1], until=1)
    assert "-o algo.expert_lr, for example to 1e+29" in caught.value.next
    assert files(tmp_path) == []

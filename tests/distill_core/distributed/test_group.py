from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.contracts.streams import streams_of_rank
from distill_core.distributed.group import Group, join
from distill_core.distributed.ranks import SINGLE_PROCESS
from distill_core.evaluation.judge import judge
from distill_core.run.assemble import assemble
from distill_core.run.checkpoint import load_checkpoint
from distill_core.run.loop import OuterLoop
from distill_core.run.validation import candidate_of, evaluator_of, validation_accuracies
from distill_core.system.state_tree import unpack
from registry import InputError, OptionError
from tests.caches import make_cache
from tests.distill_core.rank_worker import JUDGING, RUN, main, resumed
from tests.distill_core.small_run import installed, small_assembly, small_config
from tests.forks import Fork
from tests.second_device import second_device

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a pair of processes, one rank each, has left what it did."""
    folder = tmp_path_factory.mktemp("ranks")
    cache = {"DISTILL_CACHE": str(make_cache(folder / "cache"))}
    processes = [
        Fork(main, folder, rank, folder=folder / f"printed{rank}", environment=cache)
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    return [unpack((folder / f"found{rank}").read_bytes()) for rank in range(2)]


def assert_equal(one: Any, two: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_equal(one[key], two[key])
    elif isinstance(one, list):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_equal(a, b)
    else:
        assert one == two


def test_gradients_are_averaged_and_an_absent_one_is_zero(found: Found):
    for rank in found:
        both, one, none = rank["means"]
        assert both.tolist() == [1.5, 3.0]
        assert one.tolist() == [0.5, 0.5]
        assert none is None


def test_messages(found: Found):
    first, second = found
    assert first["any"] == second["any"] == [False, True, True]
    assert [part["rank"] for part in first["gathered"]] == [0, 1]
    assert [len(part["many"]) for part in first["gathered"]] == [3, 8]
    assert second["gathered"] == []
    assert first["told"] == second["told"] == {"from": 0}
    assert [*zip(first["shares"], second["shares"], strict=True)] == [
        ([], []),
        ([0], []),
        ([0, 2, 4], [1, 3]),
    ]


def test_half_the_real_batch_each_gives_the_hypergradient_of_the_whole(found: Found):
    whole = found[0]["whole"]
    assert set(whole) == {"data", "labels"}
    for rank in found:
        for name, gradient in whole.items():
            assert gradient.dtype == torch.float64
            assert gradient.abs().max() > 1e-6
            torch.testing.assert_close(rank["averaged"][name], gradient, rtol=1e-11, atol=1e-15)


def test_parameters_stay_bit_identical_and_draws_differ(found: Found):
    first, second = (rank["straight"] for rank in found)
    assert_equal(first["synthetic"], second["synthetic"])
    assert_equal(first["optimizer"], second["optimizer"])
    assert not torch.equal(first["streams"]["draw"], second["streams"]["draw"])
    assert first["algorithm"] != second["algorithm"]


def test_resuming_with_the_same_number_is_bit_exact(found: Found):
    for rank in found:
        assert not rank["complete"]
        assert rank["stopped at"] == 2
        assert_equal(rank["resumed"], rank["straight"])


def test_one_rank_out_of_time_ends_all_after_the_step(found: Found):
    for rank in found:
        assert rank["in time"]
        assert rank["steps in time"] == 1


def test_judging_is_that_of_one_process(found: Found):
    assembly = small_assembly(**JUDGING)
    alone = judge(candidate_of(assembly), evaluator_of(assembly), assembly.config.evaluate)
    for rank in found:
        assert rank["judged"] == {name: [*each.accuracies] for name, each in alone.items()}
        assert rank["curves"] == {
            name: {step: [*values] for step, values in each.checkpoints.items()}
            for name, each in alone.items()
        }
        assert rank["notes"] == {name: [*each.notes] for name, each in alone.items()}
        assert rank["validation"] == [*validation_accuracies(assembly)]
    nets = [["distilled", 0], ["distilled", 1], ["distilled", 2]]
    assert sorted(found[0]["told nets"])[:3] == nets


def test_a_rank_that_fails_leaves_the_state_of_the_last_complete_step(folder: Path, found: Found):
    first, second = found
    assert first["lost"].splitlines()[0] == ("rank 1 of 2 failed with: ValueError: out of luck")
    assert first["rescued"] == 2
    state = load_checkpoint(folder / "lost", small_config(**RUN))
    assert state["step"] == 2
    # Rank 0 had gone on in step 3 before it met nobody.
    for name, value in first["after two"].items():
        assert_equal(state[name], value)
    assert state["others"] == []
    assert first["code"] == second["code"] == 3
    assert max(first["seconds"], second["seconds"]) < 15


def test_a_session_goes_on_with_all(folder: Path, found: Found):
    assert found[0]["gone on"] == found[1]["gone on"]
    state = load_checkpoint(folder / "whole", small_config(**RUN))
    assert state["step"] == 6
    assert len(state["others"]) == 1
    manifest = json.loads((folder / "whole" / "manifest.json").read_text())
    assert manifest["processes"] == 2


def test_a_mistake_is_told_once_and_ends_all_with_its_code(folder: Path, found: Found):
    assert [rank["mistake"] for rank in found] == [2, 2]
    lines = (folder / "printed0" / "stderr").read_text().splitlines()
    assert lines[0] == "a poster of 6x20 pixels is smaller than a patch."
    assert len(lines) == 3
    assert (folder / "printed1" / "stderr").read_text() == ""
    assert not (folder / "never").exists()


@pytest.mark.parametrize("name", ["parts", "lost"])
def test_going_on_alone(name: str, folder: Path, tmp_path: Path):
    loop = resumed(folder / name, SINGLE_PROCESS)
    loop.run_dir = tmp_path
    assert loop.run()
    assert loop.step == 5
    assert load_checkpoint(tmp_path, small_config(**RUN))["others"] == []


class Third(Group):
    """Rank 2 of 3, without the others."""

    def __init__(self) -> None:
        self.rank, self.size = 2, 3


def test_a_rank_that_was_not_there_draws_what_nobody_has_drawn(folder: Path):
    config = small_config(**RUN)
    state = load_checkpoint(folder / "lost", config)
    assembly = assemble(config, installed(), class_grid=state["class_grid"])
    loop = OuterLoop(assembly, folder, ranks=Third())
    loop.load_state_dict(state)
    seen = {
        rank["draw"].get_state().numpy().tobytes()
        for rank in (streams_of_rank(0, 0), streams_of_rank(0, 1), streams_of_rank(0, 2))
    }
    assert loop.rng["draw"].get_state().numpy().tobytes() not in seen
    assert loop.since == 2
    assert assembly.algorithm.state_dict() == state["algorithm"]


def test_a_checkpoint_from_before_there_were_ranks(folder: Path):
    state = load_checkpoint(folder / "parts", small_config(**RUN))
    old = {name: value for name, value in state.items() if name not in ("others", "since")}
    loop = OuterLoop(small_assembly(**RUN), folder)
    loop.load_state_dict(old)
    assert_equal(loop.rng.state_dict(), old["streams"])


def test_rank_0_draws_what_a_single_process_draws():
    assert streams_of_rank(3, 0)["draw"].initial_seed() == (
        small_assembly(seed=3).rng["draw"].initial_seed()
    )
    seeds = {
        streams_of_rank(3, rank, since=since)["draw"].initial_seed()
        for rank in (1, 2)
        for since in (0, 5)
    }
    assert len(seeds) == 4


def test_no_launcher_is_one_process():
    assert join({}) is SINGLE_PROCESS
    assert join({"WORLD_SIZE": "1", "RANK": "0"}) is SINGLE_PROCESS
    assert SINGLE_PROCESS.device("auto") == "auto"


def test_half_an_environment_is_named():
    with pytest.raises(InputError) as caught:
        join({"WORLD_SIZE": "2", "RANK": "0"})
    assert str(caught.value) == (
        "WORLD_SIZE is 2, but MASTER_ADDR, MASTER_PORT is not set.\n"
        "Expected the environment that torchrun makes for every process.\n"
        "Next: start the run with torchrun or --procs, or unset WORLD_SIZE."
    )


def test_devices_are_one_for_each_process(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(OptionError, match="'cuda:1' cannot be shared by 3 processes"):
        Third().device("cuda:1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", lambda _: None)
    third = Third()
    third.local_rank, third.local_size = 1, 2
    assert third.device("auto") == third.device("cuda") == "cuda:1"
    assert third.device("cpu") == "cpu"
    third.local_size = 3  # all ranks of the machine refuse, not the third alone
    with pytest.raises(InputError) as caught:
        third.device("auto")
    assert str(caught.value) == (
        "there are 3 processes on this machine, and 2 CUDA devices can be seen.\n"
        "Expected a device for each process.\n"
        "Next: start at most 2 on a machine, or pass --device cpu."
    )


def test_gradients_on_a_device_are_copied_once_each_way(monkeypatch: pytest.MonkeyPatch):
    """Three ranks with the same gradients, but for one that this rank alone has not."""

    def add_up(flat: torch.Tensor, group: object) -> None:
        assert flat.device.type == "cpu"
        flat *= 3
        flat[5:8] = torch.tensor([3.0, 6.0, 9.0])  # of the other ranks
        flat[-2] = 2.0

    monkeypatch.setattr("torch.distributed.all_reduce", add_up)
    rank = Third()
    rank._step_group = None
    with second_device() as log:
        shapes = ((2, 2), (1,), (3,), (4,))
        parameters = [torch.nn.Parameter(torch.zeros(shape, device="meta")) for shape in shapes]
        parameters[0].grad = torch.arange(4.0).reshape(2, 2).to("meta")
        parameters[1].grad = torch.full((1,), 0.1).to("meta")
        log.clear()
        rank.mean_gradients(parameters)
        assert log.counts()["waits"] == log.counts()["copies"] == 1, log
        assert not log.mismatches
        first, second, third, last = (parameter.grad for parameter in parameters)
        assert last is None
        assert {each.device.type for each in (first, second, third)} == {"meta"}
        assert first.cpu().tolist() == [[0.0, 1.0], [2.0, 3.0]]
        assert second.cpu().tolist() == pytest.approx([0.1])
        assert third.cpu().tolist() == [1.0, 2.0, 3.0]

"""The second device itself: what it is there to catch, it catches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from distill_core.contracts.transfer import all_to_device, read, to_device
from tests.second_device import DEVICE, DeviceTensor, Log, on_cpu, second_device


@pytest.fixture
def log() -> Iterator[Log]:
    with second_device() as made:
        yield made


def test_numbers_are_those_of_the_cpu(log: Log) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(4, 3, 3, 3, generator=generator), torch.randn(2, 3, 5, 5)
    ends = []
    for device in ("cpu", DEVICE):
        w = weight.to(device).requires_grad_()
        loss = torch.nn.functional.conv2d(x.to(device), w).relu().square().mean()
        (first,) = torch.autograd.grad(loss, w, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), w)
        ends.append(on_cpu([loss, first, second]))
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
    assert log.operations["relu"] == 1
    assert (log.copies.total(), log.waits.total()) == (2, 2)
    assert not log.mismatches


@pytest.mark.parametrize(
    "wrong",
    [
        lambda here, there: there + here,
        lambda here, there: torch.cat([there, here]),
        lambda here, there: there @ here,
        lambda here, there: here[(there > 0).nonzero()[:, 0]],
        lambda here, there: there.index_select(0, torch.tensor([0])),
        lambda here, there: there.add_(here),
    ],
)
def test_mixtures_that_cuda_refuses_are_found(
    log: Log, wrong: Callable[[torch.Tensor, torch.Tensor], object]
) -> None:
    here, there = torch.ones(2, 2), torch.ones(2, 2).to(DEVICE)
    wrong(here, there)
    assert log.mismatches.total() == 1
    assert "tests/test_second_device.py" in next(iter(log.mismatches))


def test_numbers_and_scalars_may_be_mixed_with_a_device(log: Log) -> None:
    there = torch.ones(2, 2).to(DEVICE)
    there = there * 2 + torch.tensor(1.0)
    there[torch.tensor([0])] = 3.0
    assert not log.mismatches
    assert on_cpu(there).tolist() == [[3, 3], [3, 3]]


@pytest.mark.parametrize(
    "waiting",
    [
        lambda there: float(there[0]),
        lambda there: bool((there > 0).all()),
        lambda there: there.tolist(),
        lambda there: there.cpu(),
        lambda there: there.nonzero(),
        lambda there: there[there > 0],
        lambda there: torch.equal(there, there),
        lambda there: torch.zeros(2).copy_(there),
        lambda there: read(there[0], there.sum()),
        lambda there: torch.zeros(2).to(there),
        lambda there: torch.tensor([1.0], device=there.device),
        lambda there: there[torch.tensor([0])],
        lambda there: there[[0, 1]],
    ],
)
def test_waits_are_counted(log: Log, waiting: Callable[[torch.Tensor], object]) -> None:
    there = torch.ones(2).to(DEVICE)
    log.clear()
    waiting(there)
    assert log.waits.total() == 1, log.waits


def test_copies_that_do_not_wait_are_counted_as_copies(log: Log) -> None:
    one, two = torch.arange(6).view(2, 3), torch.ones(2)
    there = to_device(one, DEVICE)
    assert to_device(there, DEVICE) is there
    assert (log.copies.total(), log.waits.total()) == (1, 0)
    one_there, two_there, again = all_to_device([one, two, one], DEVICE)
    assert (log.copies.total(), log.waits.total()) == (3, 0)
    assert again is one_there
    assert torch.equal(on_cpu(one_there), one)
    assert torch.equal(on_cpu(two_there), two)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.rand(2, device=DEVICE),
        lambda: torch.empty(2, device=DEVICE).normal_(),
        lambda: torch.nn.functional.dropout(torch.ones(2).to(DEVICE)),
        lambda: torch.randperm(3, device=DEVICE, generator=torch.Generator()),
    ],
)
def test_draws_on_the_device_are_found(log: Log, draw: Callable[[], object]) -> None:
    draw()
    assert log.draws.total() == 1


def test_work_on_the_cpu_is_not_noted(log: Log) -> None:
    torch.rand(3)[torch.tensor([0])].sum().item()
    assert not any(log.counts().values())


def test_modules_move_there_and_are_copied_with_their_numbers(log: Log) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    known = copy.deepcopy(network)
    moved = copy.deepcopy(network.to(DEVICE))
    assert all(isinstance(parameter, DeviceTensor) for parameter in moved.parameters())
    assert all(isinstance(parameter, nn.Parameter) for parameter in moved.parameters())
    x = torch.randn(4, 3)
    assert torch.equal(on_cpu(moved(x.to(DEVICE))), known(x))
    assert torch.equal(on_cpu(moved[1].running_mean), known[1].running_mean)
    assert not log.mismatches


def test_everything_is_as_before_afterwards() -> None:
    tensor = torch.tensor
    with second_device():
        assert torch.tensor is not tensor
    assert torch.tensor is tensor
    assert not torch.__future__.get_overwrite_module_params_on_conversion()
    assert not isinstance(torch.zeros(2, device="meta"), DeviceTensor)

"""Copies to a device."""

from __future__ import annotations

from typing import Any

import torch

from distill_core.contracts.transfer import all_to_device, read, to_device
from tests.second_device import DEVICE, on_cpu, second_device


class Recorder(torch.Tensor):
    """A tensor on the CPU that writes down how it is asked to move, and stays."""

    calls: list[tuple[Any, ...]]

    def pin_memory(self, *_: object) -> Recorder:
        """Write it down."""
        self.calls.append(("pinned",))
        return self

    def to(self, *args: Any, **settings: Any) -> Recorder:
        """Write it down."""
        self.calls.append((*args, settings))
        return self


def recorder() -> Recorder:
    made = torch.zeros(3).as_subclass(Recorder)
    made.calls = []
    return made


def test_the_cpu_gets_the_same_tensor() -> None:
    tensor = torch.arange(3)
    assert to_device(tensor, torch.device("cpu")) is tensor


def test_a_copy_to_cuda_is_pinned_and_does_not_wait() -> None:
    tensor, cuda = recorder(), torch.device("cuda", 0)
    to_device(tensor, cuda)
    assert tensor.calls == [("pinned",), (cuda, {"non_blocking": True})]


def test_a_copy_to_another_device_waits() -> None:
    tensor, mps = recorder(), torch.device("mps")
    to_device(tensor, mps)
    assert tensor.calls == [(mps, {})]


def test_a_tensor_on_a_device_is_not_pinned() -> None:
    there = torch.zeros(2, device="meta")
    assert to_device(there, torch.device("meta")) is there


def test_several_go_together_by_dtype() -> None:
    floats, ints = torch.rand(2, 3), torch.arange(4).view(2, 2)
    with second_device() as log:
        found = all_to_device([floats.t(), ints, floats, ints], DEVICE)
        assert (log.copies.total(), log.waits.total()) == (2, 0)
    assert found[1] is found[3]
    assert all(each.is_contiguous() for each in found)
    for one, other in zip(on_cpu(found), (floats.t(), ints, floats, ints), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_on_the_cpu_several_stay_what_they_are() -> None:
    one, other = torch.rand(2), torch.arange(3)
    found = all_to_device([one, other], torch.device("cpu"))
    assert found[0] is one
    assert found[1] is other


def test_what_is_there_already_stays_there() -> None:
    with second_device() as log:
        there = to_device(torch.rand(2), DEVICE)
        found = all_to_device([there, torch.rand(3)], DEVICE)
        assert found[0] is there
        assert log.copies.total() == 2


def test_scalars_are_read_exactly_with_one_wait() -> None:
    scalars = (torch.tensor(0.1), torch.tensor(2**40 + 1), torch.tensor(True), torch.tensor(1 / 3))
    expected = [float(each) for each in scalars]
    assert read(*scalars) == expected
    assert read() == []
    with second_device() as log:
        there = all_to_device(scalars, DEVICE)
        assert read(*there) == expected
        assert log.waits.total() == 1
        assert read(there[0], scalars[1]) == expected[:2]

"""Copies to a device."""

from __future__ import annotations

from typing import Any

import torch

from distill_core.transfer import to_device


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

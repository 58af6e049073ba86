"""Names of devices, and what is said of one that cannot be used."""

from __future__ import annotations

import warnings

import pytest
import torch

from distill_core.system.devices import described, pick_device
from distill_core.system.out_of_memory import OutOfMemory
from registry import InputError
from tests.distill_core.fake_card import GIB, fake_card

CPU = torch.device("cpu")
DRIVERS = [
    ("Found no NVIDIA driver on your system. Please check", "there is no NVIDIA driver", False),
    (
        "The NVIDIA driver on your system is too old (found version 11040). Please update",
        "the NVIDIA driver is too old: it serves CUDA 11.4, and this PyTorch is built for CUDA "
        "13.0",
        True,
    ),
    ("No CUDA GPUs are available", "the driver shows no card (CUDA_VISIBLE_DEVICES is '')", True),
    ("Unexpected error from cudaGetDeviceCount(). Did you", "Unexpected error from cuda", True),
]


def without_cuda(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """A PyTorch with CUDA that finds no card, and warns of it once, as PyTorch does."""

    def is_available() -> bool:
        warnings.warn("CUDA initialization: something is wrong", UserWarning, stacklevel=2)
        return False

    def init() -> None:
        raise RuntimeError(reason)

    fake_card(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cpu", "cuda"}
    with pytest.raises(
        InputError, match=r"'gpu' cannot be used: PyTorch does not know such a device\."
    ):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device 'cuda' cannot be used"):
            pick_device("cuda")


@pytest.mark.parametrize(("reason", "said", "odd"), DRIVERS)
def test_a_driver_that_does_not_serve_is_named(
    reason: str, said: str, odd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for by name it is a mistake; else the CPU is taken, which is said if there may be a
    card."""
    without_cuda(monkeypatch, reason)
    with pytest.raises(InputError) as caught:
        pick_device("cuda")
    assert caught.value.what.startswith(f"device 'cuda' cannot be used: {said}")
    assert caught.value.next.endswith("or leave --device out to let distill choose.")
    assert pick_device("auto") == CPU
    line = described(CPU, "auto")
    assert line.startswith(f"cpu (CUDA cannot be used: {said}") if odd else line == "cpu"
    assert described(CPU, "cpu") == "cpu"


def test_a_pytorch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    assert described(pick_device("auto"), "auto") == "cpu"
    with pytest.raises(InputError, match=r"this PyTorch \(.*\) is built without CUDA") as caught:
        pick_device("cuda:0")
    assert "pytorch.org/get-started" in caught.value.next


def test_a_card_and_its_memory_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    card = fake_card(monkeypatch, reserved=3 * GIB, allocated=GIB, count=2)
    device = pick_device("auto")
    assert device == torch.device("cuda")
    # What PyTorch holds unused it can take again.
    assert described(device, "auto") == "cuda (NVIDIA H100, 42.00 GiB of 80.00 GiB free)"
    assert card.chosen == []
    assert pick_device("cuda:1") == torch.device("cuda:1")
    assert card.chosen == ["cuda:1"]  # where streams and pinned memory are made


@pytest.mark.parametrize(("count", "seen"), [(1, "only cuda:0."), (2, "only cuda:0 to cuda:1.")])
def test_a_card_that_is_not_there(count: int, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_card(monkeypatch, count=count)
    with pytest.raises(InputError) as caught:
        pick_device("cuda:3")
    assert caught.value.what == (f"device 'cuda:3' cannot be used: there is no such card, {seen}")
    assert "pass --device cuda:0, or" in caught.value.next


def test_a_card_that_pytorch_has_no_code_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_card(monkeypatch, name="Tesla P100", capability=(6, 0))
    with pytest.raises(InputError, match=r"no code for Tesla P100, compute capability 6\.0, only"):
        pick_device("cuda")
    assert pick_device("auto") == CPU
    assert "has no code for Tesla P100" in described(CPU, "auto")


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_a_card_that_is_full(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even "auto" goes on without it: it was the user's choice to have one."""
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
    card = fake_card(monkeypatch, free=2**20, refuses=full)
    with pytest.raises(OutOfMemory) as caught:
        pick_device(name)
    assert caught.value.what.endswith("is full: 1 MiB of 80.00 GiB are free.")
    card.refuses = RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nX")
    with pytest.raises(InputError, match=r"devices are busy or unavailable\."):
        pick_device(name)

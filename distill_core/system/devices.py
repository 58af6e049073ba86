"""Where tensors live: find the device for a name on this machine, or say why it cannot be used."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from distill_core.system.cards import card_of, has_code, room
from distill_core.system.out_of_memory import OutOfMemory, is_out_of_memory
from distill_core.system.units import size_text
from registry import InputError

LEAVE_OUT = "leave --device out to let distill choose."
EXPECTED = "auto, cpu, cuda, cuda:N or mps, and present on this machine."


class Trouble(NamedTuple):
    """Why CUDA cannot be used.

    Attributes:
        why: half a sentence.
        next: what to do about it.
        odd: there seems to be a card nevertheless, so the log must say that it is not used.
    """

    why: str
    next: str
    odd: bool = True


def pick_device(name: str) -> torch.device:
    """Return the device for a name; "auto" is CUDA if it can be used, otherwise the CPU.

    A CUDA device named by number becomes the current one, on which PyTorch makes streams and
    pinned memory.

    Raises:
        InputError: there is no such device, or it is not available here.
        OutOfMemory: the card is full.
    """
    if name == "auto":
        cuda = torch.device("cuda")
        return torch.device("cpu") if cuda_trouble(cuda) else _taken(cuda)
    try:
        device = torch.device(name)
    except RuntimeError:
        raise _unusable(name, "PyTorch does not know such a device") from None
    if device.type == "cuda":
        if trouble := cuda_trouble(device):
            raise _unusable(name, trouble.why, next=f"{trouble.next}, or {LEAVE_OUT}")
        return _taken(device)
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise _unusable(name, _reason(error)) from None
    return device


def described(device: torch.device, asked: str) -> str:
    """Describe a device for the log: the card and its memory, or why no card is used.

    Args:
        device: from `pick_device`.
        asked: the name given to `pick_device`.
    """
    if device.type == "cuda":
        free, total = room(device)
        name = card_of(device).name
        return f"{device} ({name}, {size_text(free)} of {size_text(total)} free)"
    if device.type == "cpu" and asked == "auto":
        trouble = cuda_trouble(torch.device("cuda"))
        if trouble and trouble.odd:
            return f"{device} (CUDA cannot be used: {trouble.why})"
    return str(device)


def has_cuda() -> bool:
    """Say whether PyTorch can use a CUDA device, without its warnings about drivers."""
    with _no_warnings():
        return torch.cuda.is_available()


def cuda_trouble(device: torch.device) -> Trouble | None:
    """Say why a CUDA device cannot be used; None if it can."""
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        why = f"this PyTorch ({torch.__version__}) is built without CUDA"
        return Trouble(why, "install one with CUDA, see https://pytorch.org/get-started", odd=False)
    if not has_cuda():
        return _no_cuda()
    count, index = torch.cuda.device_count(), device.index or 0
    if index >= count:
        seen = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        return Trouble(f"there is no such card, only {seen}", f"pass --device {seen[:6]}")
    return _no_code(device)


def _no_code(device: torch.device) -> Trouble | None:
    """Say whether PyTorch has no code for this card."""
    if torch.version.cuda is None:  # AMD numbers its cards differently
        return None
    with _no_warnings():
        card, built_for = card_of(device), torch.cuda.get_arch_list()
    if has_code(card.capability, built_for):
        return None
    return Trouble(
        f"this PyTorch ({torch.__version__}) has no code for {card}, only for "
        f"{', '.join(built_for)}",
        "install a PyTorch that is built for it, see https://pytorch.org/get-started",
    )


def _no_cuda() -> Trouble:
    """Ask PyTorch, which is built with CUDA, why it does not find a card."""
    try:
        with _no_warnings():
            torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = _reason(error)
    else:
        reason = "PyTorch does not say why"
    if "no NVIDIA driver" in reason:
        return Trouble("there is no NVIDIA driver", "install one, if there is a card", odd=False)
    if "driver on your system is too old" in reason:
        found = re.search(r"found version (\d+)", reason)
        served = f": it serves CUDA {_cuda_version(int(found[1]))}" if found else ""
        return Trouble(
            f"the NVIDIA driver is too old{served}, and this PyTorch is built for CUDA "
            f"{torch.version.cuda}",
            "update the driver, or install a PyTorch for an older CUDA",
        )
    if "No CUDA GPUs" in reason:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is '{visible}')"
        return Trouble(
            f"the driver shows no card{hidden}",
            "set CUDA_VISIBLE_DEVICES, or see whether `nvidia-smi` finds the card",
        )
    return Trouble(reason, "see whether `nvidia-smi` finds the card")


def _taken(device: torch.device) -> torch.device:
    """Make the first tensor on a card, which loads the driver's part of the process."""
    try:
        with _no_warnings():
            if device.index is not None:
                torch.cuda.set_device(device)
            torch.empty(1, device=device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise _unusable(
                str(device),
                _reason(error),
                next="see with `nvidia-smi` what the card does, or pass --device cpu.",
            ) from None
        raise OutOfMemory(
            f"the card {device} is full: {_free(device)}.",
            expected="room for the driver's part of the process, some hundreds of MiB, and for "
            "the run.",
            next="end what uses it, as `nvidia-smi` shows, choose another card with --device "
            "cuda:N, or pass --device cpu.",
        ) from None
    return device


def _free(device: torch.device) -> str:
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # the query itself takes memory
        return "not even its memory can be asked for"
    return f"{size_text(free)} of {size_text(total)} are free"


def _unusable(name: str, why: str, *, next: str = LEAVE_OUT) -> InputError:
    return InputError(f"device '{name}' cannot be used: {why}.", expected=EXPECTED, next=next)


def _reason(error: BaseException) -> str:
    """The first sentence of PyTorch's error."""
    return (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0].rstrip(".")


def _cuda_version(number: int) -> str:
    """Write a version that CUDA counts as 12040: 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Silence PyTorch's warnings about drivers and cards; this module reports them as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

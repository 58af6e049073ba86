"""How a CUDA device computes: its precision, its algorithms, and whether bits repeat.

By default PyTorch lets convolutions round to TensorFloat-32. Here everything is computed in full
float32, except the convolutions of outer steps if `run.tf32` asks for it: whitening, labels,
experts and judging never round. A CPU gives the same bits whatever is set.

The settings belong to the process, so `set_arithmetic` sets each of them both ways: a second run in
the same process inherits nothing from the first. Only PyTorch's newer precision settings are used,
because PyTorch refuses a process that mixes them with the older `allow_tf32`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch

from distill_core.system.cards import card_of

_cudnn: Any = torch.backends.cudnn  # its type stubs lack the newer settings
_cuda: Any = torch.backends.cuda
FULL, ROUNDED = "ieee", "tf32"
WORKSPACE, REPEATABLE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"

# A fact about the process: whether it was this module that set the workspace of cuBLAS.
_set_workspace = False


class ArithmeticSettings(Protocol):
    """The settings of a run that are read here; `RunConfig` has them."""

    @property
    def tf32(self) -> bool:
        """Whether the convolutions of outer steps may round to TensorFloat-32."""
        ...

    @property
    def deterministic(self) -> bool:
        """Whether operations must give the same bits every time."""
        ...


def set_arithmetic(settings: ArithmeticSettings) -> None:
    """Set how CUDA devices compute in this process, until the next call.

    Args:
        settings: `deterministic` is read; `tf32` by `inner_precision` alone.
    """
    _cudnn.conv.fp32_precision = FULL
    _cudnn.rnn.fp32_precision = FULL
    _cuda.matmul.fp32_precision = FULL
    # Finds the fastest algorithm for each shape by trying; the next run may find another one.
    _cudnn.benchmark = not settings.deterministic
    _cudnn.deterministic = settings.deterministic
    _set_algorithms(settings.deterministic)
    # Filling new tensors takes time, and nothing here reads uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = not settings.deterministic  # type: ignore[attr-defined]
    _set_cublas_workspace(settings.deterministic)


def _set_algorithms(deterministic: bool) -> None:
    """Let operations without a deterministic way warn; or undo that.

    Any call of PyTorch's function imports its compiler, which takes seconds.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    if (enabled, torch.is_deterministic_algorithms_warn_only_enabled()) != (deterministic,) * 2:
        torch.use_deterministic_algorithms(deterministic, warn_only=deterministic)


def _set_cublas_workspace(repeatable: bool) -> None:
    """Make cuBLAS repeat its bits, unless the user has set the workspace; or undo that."""
    global _set_workspace  # noqa: PLW0603
    if repeatable and WORKSPACE not in os.environ:
        os.environ[WORKSPACE] = REPEATABLE
        _set_workspace = True
    elif not repeatable and _set_workspace:
        os.environ.pop(WORKSPACE, None)
        _set_workspace = False


def inner_precision(settings: ArithmeticSettings) -> AbstractContextManager[None]:
    """Within the context, convolutions follow `run.tf32`: for outer steps and their trials."""
    return _convolutions(ROUNDED) if settings.tf32 else nullcontext()


def full_precision() -> AbstractContextManager[None]:
    """Within the context, convolutions are full float32, even in an outer step.

    Used for results that are kept for other runs.
    """
    return _convolutions(FULL)


def convolution_precision() -> str:
    """Return the precision of convolutions now: "ieee" or "tf32".

    Code that is captured or compiled once and used again is valid for one of them only.
    """
    return str(_cudnn.conv.fp32_precision)


@contextmanager
def _convolutions(precision: str) -> Iterator[None]:
    before = convolution_precision()
    _cudnn.conv.fp32_precision = precision
    try:
        yield
    finally:
        _cudnn.conv.fp32_precision = before


def arithmetic_of(settings: ArithmeticSettings, device: torch.device) -> str:
    """Say for the log and the manifest how a device computes; empty for a CPU.

    Args:
        settings: `tf32` and `deterministic` are read.
        device: where the run is.
    """
    if device.type != "cuda":
        return ""
    card = card_of(device)
    text = "float32"
    if settings.tf32 and card.tf32:
        text = "TensorFloat-32 in the convolutions of outer steps, float32 elsewhere"
    elif settings.tf32:
        text = f"float32: run.tf32 has no effect, since {card}, has no TensorFloat-32"
    return f"{text}; deterministic where PyTorch can" if settings.deterministic else text

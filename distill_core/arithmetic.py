"""How a CUDA device computes: how exactly, by which algorithms, and whether bits repeat.

PyTorch lets convolutions round to TensorFloat-32 unless it is told otherwise. Here everything is
float32 in full, but for the convolutions of outer steps where `run.tf32` asks for it: whitening,
labels, experts and judging never round. A CPU gives the same bits whatever is set.

All settings are those of the process, so `set_arithmetic` sets each of them both ways: a second run
in the same process finds nothing of the first. Only PyTorch's newer settings of precision are used,
since it refuses a process that has used the older `allow_tf32`, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from distill_core.cards import card_of
from distill_core.config import RunConfig

_cudnn: Any = torch.backends.cudnn  # whose types do not know the newer settings
_cuda: Any = torch.backends.cuda
FULL, ROUNDED = "ieee", "tf32"
WORKSPACE, REPEATABLE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"

# A fact about the process: whether it was this module that set the workspace of cuBLAS.
_set_workspace = False


def set_arithmetic(config: RunConfig) -> None:
    """Set how CUDA devices compute in this process, until the next call.

    Args:
        config: `deterministic` is read; `tf32` by `inner_precision` alone.
    """
    _cudnn.conv.fp32_precision = FULL
    _cudnn.rnn.fp32_precision = FULL
    _cuda.matmul.fp32_precision = FULL
    # The fastest algorithm for each shape is found by trying; another one may be it next time.
    _cudnn.benchmark = not config.deterministic
    _cudnn.deterministic = config.deterministic
    torch.use_deterministic_algorithms(config.deterministic, warn_only=config.deterministic)
    # Filling new tensors takes time, and nothing here reads what nobody wrote.
    torch.utils.deterministic.fill_uninitialized_memory = not config.deterministic  # type: ignore[attr-defined]
    _set_cublas_workspace(config.deterministic)


def _set_cublas_workspace(repeatable: bool) -> None:
    """Let cuBLAS repeat its bits, unless the user has chosen; or take that back."""
    global _set_workspace  # noqa: PLW0603
    if repeatable and WORKSPACE not in os.environ:
        os.environ[WORKSPACE] = REPEATABLE
        _set_workspace = True
    elif not repeatable and _set_workspace:
        os.environ.pop(WORKSPACE, None)
        _set_workspace = False


def inner_precision(config: RunConfig) -> AbstractContextManager[None]:
    """Within, convolutions are as exact as `run.tf32` says: for outer steps and their trials."""
    return _convolutions(ROUNDED) if config.tf32 else nullcontext()


def full_precision() -> AbstractContextManager[None]:
    """Within, convolutions are float32 in full, even in an outer step: for what is kept."""
    return _convolutions(FULL)


def convolution_precision() -> str:
    """Return how exact convolutions are now: "ieee" or "tf32".

    What is captured or compiled once and used again belongs to one of them.
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


def arithmetic_of(config: RunConfig, device: torch.device) -> str:
    """Say for the log and the manifest how a device computes; nothing of a CPU.

    Args:
        config: `tf32` and `deterministic` are read.
        device: where the run is.
    """
    if device.type != "cuda":
        return ""
    card = card_of(device)
    said = "float32"
    if config.tf32 and card.tf32:
        said = "TensorFloat-32 in the convolutions of outer steps, float32 elsewhere"
    elif config.tf32:
        said = f"float32: run.tf32 has no effect, since {card}, has no TensorFloat-32"
    return f"{said}; deterministic where PyTorch can" if config.deterministic else said

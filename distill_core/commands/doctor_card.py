"""What `distill doctor` says about the card: its abilities, and why PyTorch cannot use it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

from distill_core.commands.doctor_finding import Finding
from distill_core.engine.kernels.choice import check
from distill_core.engine.kernels.native import Unavailable
from distill_core.system.cards import Card, card_of, cudnn, driver, room, version
from distill_core.system.devices import cuda_trouble, pick_device
from distill_core.system.units import size_text

LITTLE = 2 * 2**30  # bytes; about what the published setting needs with nothing retained
OVERRIDE = "NVIDIA_TF32_OVERRIDE"


def examine_device() -> Iterator[Finding]:
    """Check the default device of runs."""
    trouble = cuda_trouble(torch.device("cuda"))
    if trouble is not None:
        state, advice = ("warn", trouble.next) if trouble.odd else ("ok", "")
        yield Finding("device", state, f"cpu, no CUDA device: {trouble.why}", advice)
        return
    device = pick_device("auto")
    card, count = card_of(device), torch.cuda.device_count()
    others = f", one of {count}" if count > 1 else ""
    yield Finding("device", "ok", f"{device} ({card}{others})")
    yield _memory(device)
    yield _libraries()
    yield _arithmetic(card)
    yield _kernels(device)


def _memory(device: torch.device) -> Finding:
    free, total = room(device)
    found = f"{size_text(free)} of {size_text(total)} free"
    if free < LITTLE:
        return Finding("card's memory", "warn", found, "end what uses it, as `nvidia-smi` shows")
    return Finding("card's memory", "ok", found)


def _libraries() -> Finding:
    known = cudnn()
    found = f"driver {driver()}, PyTorch for CUDA {torch.version.cuda}, cuDNN {known or 'missing'}"
    if known is None:
        advice = "install PyTorch with cuDNN, see https://pytorch.org/get-started"
        return Finding("CUDA", "warn", f"{found}; convolutions are slow", advice)
    return Finding("CUDA", "ok", found)


def _arithmetic(card: Card) -> Finding:
    has = "TensorFloat-32 and bfloat16" if card.tf32 and card.bfloat16 else "float32 alone"
    found = f"{has} (compute capability {version(card.capability)})"
    if os.environ.get(OVERRIDE) == "1":
        return Finding(
            "arithmetic",
            "warn",
            f"{found}; {OVERRIDE} is 1, so that whitening and judging are rounded, too",
            f"unset {OVERRIDE}; -o run.tf32=true rounds where it does little harm",
        )
    return Finding("arithmetic", "ok", found)


def _kernels(device: torch.device) -> Finding:
    """Compile and try the kernels of the ConvNet, as a run does."""
    try:
        check(device)
    except Unavailable as error:
        slower = f"{error}; runs use autograd, which is slower"
        return Finding("CUDA kernels", "warn", slower, error.next)
    return Finding("CUDA kernels", "ok", "compiled by Triton and tried")

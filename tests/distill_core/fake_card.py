"""A CUDA card that is not there: what PyTorch says of one, for code that asks and decides.

Nothing is computed on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

GIB = 2**30


@dataclass
class FakeCard:
    """What PyTorch is made to say; may be changed as a test goes on.

    Attributes:
        free, total: bytes of the card, as the driver says.
        reserved, allocated: bytes that PyTorch holds, and its tensors take.
        peak_reserved: the most that it held.
        name, capability: of the card.
        count: how many there are.
        built_for: what PyTorch has code for.
        cudnn: the version that it has.
        refuses: what the first tensor on it raises, if anything.
        chosen: the devices that were made the current one.
        emptied: how often PyTorch was told to give back what it holds unused.
    """

    free: int = 40 * GIB
    total: int = 80 * GIB
    reserved: int = 0
    allocated: int = 0
    peak_reserved: int = 0
    name: str = "NVIDIA H100"
    capability: tuple[int, int] = (9, 0)
    count: int = 1
    built_for: tuple[str, ...] = ("sm_80", "sm_90")
    cudnn: int | None = 92400
    refuses: Exception | None = None
    chosen: list[str] = field(default_factory=list)
    emptied: int = 0

    def properties(self, device: Any) -> SimpleNamespace:
        major, minor = self.capability
        return SimpleNamespace(name=self.name, major=major, minor=minor, total_memory=self.total)

    def empty_cache(self) -> None:
        self.emptied += 1


def fake_card(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> FakeCard:
    """Make PyTorch speak of a card for the rest of a test."""
    card = FakeCard(**facts)
    answers = {
        "is_available": lambda: True,
        "device_count": lambda: card.count,
        "get_device_properties": card.properties,
        "get_arch_list": lambda: list(card.built_for),
        "mem_get_info": lambda device=None: (card.free, card.total),
        "memory_reserved": lambda device=None: card.reserved,
        "memory_allocated": lambda device=None: card.allocated,
        "max_memory_reserved": lambda device=None: card.peak_reserved,
        "reset_peak_memory_stats": lambda device=None: None,
        "set_device": lambda device: card.chosen.append(str(device)),
        "empty_cache": card.empty_cache,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for user in ("commands.doctor_card", "system.versions"):
        monkeypatch.setattr(f"distill_core.{user}.cudnn", lambda: card.cudnn)
    empty = torch.empty

    def made(*size: Any, **how: Any) -> torch.Tensor:
        if torch.device(how.get("device") or "cpu").type != "cuda":
            return empty(*size, **how)
        if card.refuses:
            raise card.refuses
        return empty(*size, **{**how, "device": "cpu"})

    monkeypatch.setattr(torch, "empty", made)
    return card

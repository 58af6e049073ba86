"""CUDA cards: name, abilities, and free memory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

Capability = tuple[int, int]

AMPERE: Capability = (8, 0)  # the first generation with TensorFloat-32 and bfloat16
DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Card:
    """A card.

    Attributes:
        name: the maker's name for it.
        capability: compute capability, major and minor.
        total: bytes of memory.
    """

    name: str
    capability: Capability
    total: int

    @property
    def tf32(self) -> bool:
        """Whether it multiplies in TensorFloat-32."""
        return self.capability >= AMPERE

    @property
    def bfloat16(self) -> bool:
        """Whether it multiplies in bfloat16."""
        return self.capability >= AMPERE

    def __str__(self) -> str:
        return f"{self.name}, compute capability {version(self.capability)}"


def card_of(device: torch.device) -> Card:
    """Return the card of a CUDA device; "cuda" is the current one."""
    found = torch.cuda.get_device_properties(device)
    return Card(found.name, (found.major, found.minor), found.total_memory)


def room(device: torch.device) -> tuple[int, int]:
    """Return the free bytes of a card, including what PyTorch holds unused, and its total."""
    free, total = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + unused, total


def cudnn() -> int | None:
    """Return PyTorch's version of cuDNN, or None."""
    found: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return found


def driver() -> str:
    """Return the version of the NVIDIA driver, or "unknown"."""
    try:
        found = re.search(r"\s(\d+\.\d[\d.]*)\s", DRIVER.read_text(encoding="utf-8"))
    except OSError:  # Windows, and containers that hide the file
        found = None
    return found[1] if found else "unknown"


def has_code(capability: Capability, built_for: Iterable[str]) -> bool:
    """Say whether PyTorch has machine code for a card, or code that the driver can translate.

    Args:
        capability: of the card.
        built_for: from `torch.cuda.get_arch_list`. sm_XY runs on cards with the same major and the
            same or a higher minor number; compute_XY on all cards from X.Y on; with a letter, on
            exactly this capability (a) or on its family (f).

    >>> has_code((8, 9), ["sm_80", "sm_90a"]), has_code((9, 0), ["sm_90a"])
    (True, True)
    >>> has_code((7, 0), ["sm_75", "sm_80"]), has_code((12, 1), ["sm_80", "compute_90"])
    (False, True)
    """
    known = list(built_for)
    if not known:  # a build that does not list them
        return True
    return any(_runs(capability, *_parsed(each)) for each in known)


def _parsed(built_for: str) -> tuple[str, Capability, str]:
    kind, _, number = built_for.partition("_")
    digits = number.rstrip("abcdefghijklmnopqrstuvwxyz")
    return kind, (int(digits[:-1] or 0), int(digits[-1:] or 0)), number[len(digits) :]


def _runs(capability: Capability, kind: str, built_for: Capability, suffix: str) -> bool:
    if suffix == "a":
        return capability == built_for
    if kind == "compute" and not suffix:
        return capability >= built_for
    return capability[0] == built_for[0] and capability[1] >= built_for[1]


def version(capability: Capability) -> str:
    """Write a compute capability, such as 9.0."""
    return f"{capability[0]}.{capability[1]}"

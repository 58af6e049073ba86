"""What a result depends on: package versions and hardware."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

import torch

from distill_core import __version__
from distill_core.system.cards import card_of, cudnn, driver, version
from distill_core.system.cores import count_cores, processor
from distill_core.system.process import allocator
from registry import EnvironmentFault, first_line


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    found = {"distill": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "timm", "open_clip_torch", "numpy", "scipy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def check_torchvision() -> None:
    """Refuse a torchvision that was built for another PyTorch: networks and datasets need both.

    Raises:
        EnvironmentFault: it cannot be imported.
    """
    try:
        import torchvision  # noqa: F401
    except Exception as error:  # what a mismatch raises differs by version and system
        found = versions()
        raise EnvironmentFault(
            f"torchvision {found['torchvision']} cannot be imported with torch {found['torch']}: "
            f"{first_line(error)}.",
            expected="the two that were built for each other, from one place.",
            next="reinstall both: pip install --force-reinstall torch torchvision, with the same "
            "--index-url as before, if there was one.",
        ) from None


def hardware(device: torch.device) -> dict[str, Any]:
    """Return the hardware that the run uses."""
    return {
        "device": str(device),
        **(_card(device) if device.type == "cuda" else {"name": processor()}),
        "system": sys.platform,
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cores": count_cores(),
        "threads": torch.get_num_threads(),
        "allocator": allocator(),
    }


def _card(device: torch.device) -> dict[str, Any]:
    card = card_of(device)
    return {
        "name": card.name,
        "capability": version(card.capability),
        "memory": card.total,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn(),
        "processor": processor(),
    }

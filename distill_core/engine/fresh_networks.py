"""Fresh networks: the one place that uses PyTorch's global random state, and restores it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import global_seed
from distill_core.contracts.transfer import all_to_device


def new_backbone(
    make: Callable[[], Backbone], generator: Generator, device: torch.device
) -> Backbone:
    """Make a freshly initialised network on the device, in training mode.

    Args:
        make: builds the network on the CPU.
        generator: seeds the initial weights, which do not depend on the device.
        device: where the network goes.
    """
    with global_seed(generator):
        backbone = make()
    _move(backbone, device)
    return backbone.train()


def _move(module: nn.Module, device: torch.device) -> None:
    """Do what `module.to(device)` does, with one copy per dtype instead of one per tensor."""
    stored = [*module.parameters(), *module.buffers()]
    # Clones have their own storage, aligned as fast kernels expect.
    moved = {
        id(tensor): copied if copied is tensor else copied.clone()
        for tensor, copied in zip(stored, all_to_device(stored, device), strict=True)
    }

    def place(tensor: Tensor) -> Tensor:
        return moved[id(tensor)] if id(tensor) in moved else tensor.to(device)

    module._apply(place)  # type: ignore[no-untyped-call]

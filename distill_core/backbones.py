"""Fresh networks: the one place where PyTorch's global random state is used, and put back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from distill_core.contracts import Backbone
from distill_core.streams import global_seed
from distill_core.transfer import all_to_device


def new_backbone(
    make: Callable[[], Backbone], generator: Generator, device: torch.device
) -> Backbone:
    """Make a freshly initialised network on the device, in training mode.

    Args:
        make: builds the network on the CPU, for example a catalogue's `create` with its arguments.
        generator: decides the initial weights, which do not depend on the device.
        device: where the network is to be.
    """
    with global_seed(generator):
        backbone = make()
    _move(backbone, device)
    return backbone.train()


def _move(module: nn.Module, device: torch.device) -> None:
    """Do what `module.to(device)` does, with one copy for each dtype and not for each tensor."""
    stored = [*module.parameters(), *module.buffers()]
    # Clones: tensors with storage of their own, as everywhere, and as fast kernels align them.
    moved = {
        id(tensor): copied if copied is tensor else copied.clone()
        for tensor, copied in zip(stored, all_to_device(stored, device), strict=True)
    }

    def place(tensor: Tensor) -> Tensor:
        return moved[id(tensor)] if id(tensor) in moved else tensor.to(device)

    module._apply(place)

"""Fresh networks: the one place where PyTorch's global random state is used, and put back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator

from distill_core.contracts import Backbone
from distill_core.streams import global_seed


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
    return backbone.to(device).train()

"""A network of the user's own, tried on two images before it is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill_core.system.out_of_memory import is_out_of_memory
from distill_core.system.units import counted
from distill_core.training.modes import own_modes
from registry import InputError


@torch.no_grad()
def check_network(network: nn.Module, images: Tensor, num_classes: int) -> None:
    """Refuse a network that does not turn these images into logits of so many classes.

    Args:
        network: in any mode; it is tried in evaluation mode, then each module has its own again.
        images: (n, C, h, w); the first two are used.
        num_classes: K.

    Raises:
        InputError: it is no network, has no parameters that can be trained, does not take the
            images, or gives something else than logits (n, K).
    """
    if not isinstance(network, nn.Module):
        what = f"the class {network.__name__}" if isinstance(network, type) else repr(network)
        raise InputError(
            f"the network is {what:.60}.",
            expected="a torch.nn.Module.",
            next="pass the network itself.",
        )
    if next(network.parameters(), None) is None:
        raise InputError(
            "the network has no parameters, so there is nothing to train.",
            expected="a network with a last layer that learns.",
            next="pass another one.",
        )
    if not any(each.requires_grad for each in network.parameters()):
        raise InputError(
            "all parameters of the network are frozen, so there is nothing to train.",
            expected="at least a last layer that learns.",
            next="call requires_grad_(True) on what is to be trained.",
        )
    few = images[:2].to(next(network.parameters()).device)
    channels, h, w = few.shape[1:]
    size = f"{channels}x{h}x{w}"
    try:
        with own_modes(network):
            network.eval()
            logits = network(few)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        types = {each.dtype for each in network.parameters()} - {few.dtype}
        other = str(next(iter(types), ""))
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"the network does not take these images of {size}: {reason}.",
            expected=f"a network from ({', '.join(map(str, few.shape))}) to "
            f"({len(few)}, {num_classes}).",
            next=f"call network.float(): it has parameters in {other}."
            if other
            else f"make it for {counted(channels, 'input channel')} and images of {h}x{w} pixels.",
        ) from error
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (len(few), num_classes):
        raise InputError(
            f"the network gives {shape} for {len(few)} images.",
            expected=f"logits ({len(few)}, {num_classes}), one for each class.",
            next=f"give its last layer {num_classes} outputs.",
        )

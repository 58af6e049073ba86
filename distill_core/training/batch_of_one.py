"""Batch normalisation and batches of one image: refused before PyTorch refuses them in the middle.

A single image is enough where a layer sees several pixels of it. Where it sees one, as the last
layers of a deep network on small images do, one number has no spread to divide by.
"""

from __future__ import annotations

from copy import deepcopy

import torch

from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import global_seed, seeded
from distill_core.engine.engine import mixes_images
from registry import InputError

TEXT = "Expected more than 1 value per channel when training"  # PyTorch's


def is_of_one(error: BaseException) -> bool:
    """Return whether PyTorch refused a batch of one image."""
    return isinstance(error, ValueError) and str(error).startswith(TEXT)


@torch.no_grad()
def takes_one(network: Backbone, image_shape: tuple[int, int, int]) -> bool:
    """Return whether a network trains on a batch of one image.

    Args:
        network: on its device; it is not changed.
        image_shape: C, h, w.
    """
    if not mixes_images(network):
        return True
    copy = deepcopy(network).train()
    images = torch.zeros(1, *image_shape, device=copy.head.weight.device)
    try:
        with global_seed(seeded(0)):  # of dropout
            copy(images)
    except ValueError as error:
        if is_of_one(error):
            return False
        raise
    return True


def check_batch(network: Backbone, image_shape: tuple[int, int, int], size: int, of: str) -> None:
    """Refuse a batch of one image for a network that cannot be trained on it.

    Args:
        network: a fresh one.
        image_shape: C, h, w.
        size: images of the batch.
        of: what the batch is of, with what decides its size.

    Raises:
        InputError: the network has batch normalisation over a single number.
    """
    if size == 1 and not takes_one(network, image_shape):
        raise of_one(of)


def of_one(of: str) -> InputError:
    """Return the error for a batch of one image."""
    return InputError(
        f"batch normalisation in this network needs 2 images or more in a batch, and {of} has 1.",
        expected="batches of at least 2 images, or a network without batch normalisation.",
        next="choose another norm or --backbone, a larger --ipc, or larger batches.",
    )

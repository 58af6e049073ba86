"""Defaults of the engine's options: as much as the device has room for.

On the CPU they are the same everywhere, so that the same seed gives the same bits on any machine.
"""

from __future__ import annotations

import torch

from distill_core.config.sections import EngineOptions
from distill_core.system.cards import card_of, room
from distill_core.system.units import parse_size
from registry import InputError

CACHE, CHUNK = 256 * 2**20, 250
# On CUDA. 16 GiB hold all 60 window steps of the published ConvNet, which take 272 MiB each.
LARGEST_CACHE = 16 * 2**30
LARGER_CHUNKS = (1000, 500)
# The published ConvNet takes 2.1 MB for a real image; one four times as large has a quarter.
FREE_FOR_AN_IMAGE = 4 * 4 * 2_100_000


def cache_size(text: str, device: torch.device) -> int:
    """Return the bytes that activations may take.

    On CUDA half of the free memory, rounded down to a power of two, so that small differences in
    free memory change nothing.

    Args:
        text: `engine.activation_cache`.
        device: where the engine computes.
    """
    if text == "none":
        return 0
    if text != "auto":
        return parse_size(text, what="engine.activation_cache")
    if device.type != "cuda":
        return CACHE
    half = room(device)[0] // 2
    return min(1 << max(half.bit_length() - 1, 0), LARGEST_CACHE)


def chunk_size(asked: int | None, device: torch.device, *, splits: bool) -> int:
    """Return how many real images are taken at a time.

    Args:
        asked: `engine.real_chunk`.
        device: where the engine computes.
        splits: the result is the same whatever the chunk. If not, the chunk must not depend on the
            device.
    """
    if asked is not None:
        return asked
    if device.type != "cuda" or not splits:
        return CHUNK
    free = room(device)[0]
    return next((size for size in LARGER_CHUNKS if size * FREE_FOR_AN_IMAGE <= free), CHUNK)


def check_precision(options: EngineOptions, device: torch.device) -> None:
    """Refuse bfloat16 on a card that does not support it.

    Raises:
        InputError: `engine.precision` asks for it.
    """
    if options.precision != "bfloat16" or device.type != "cuda":
        return
    card = card_of(device)
    if not card.bfloat16:
        raise InputError(
            f"option engine.precision = bfloat16 cannot be used: {card}, has no bfloat16.",
            expected="a card of compute capability 8.0 (Ampere) or newer, or the CPU.",
            next="leave -o engine.precision out: float32 is the default.",
        )

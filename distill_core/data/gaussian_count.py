"""How many Gaussians an image gets. Without PyTorch: options ask, before anything is loaded."""

from __future__ import annotations

LEAST_PIXELS = 16  # that a Gaussian of a small image stands for


def points_of(hw: tuple[int, int], most: int) -> int:
    """Return how many Gaussians draw an image: `most`, or a small one's pixels over `LEAST_PIXELS`.

    >>> points_of((32, 32), 22), points_of((8, 8), 22), points_of((2, 2), 22)
    (22, 4, 1)
    """
    return min(most, max(1, hw[0] * hw[1] // LEAST_PIXELS))

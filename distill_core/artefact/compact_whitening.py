"""The matrix of a ZCA in less than a hundredth of its bytes: few numbers over waves.

Natural images look the same everywhere, so a ZCA of them is nearly diagonal over the waves of a
discrete cosine transform (DCT-II, orthonormal, over channels, rows and columns). Kept are the
diagonal and the largest other numbers, each weighted by how much of the images it acts upon. What
is left out is mostly the noise of fitting d (d + 1) / 2 numbers to so many images.

Letters: C channels, h w their size, d = C h w, n numbers beside the diagonal.

    diagonal (d,) float32    over waves
    counts   (d,) int16      how many of the n numbers each row of the upper triangle has
    columns  (n,) int16      where they are, row by row
    values   (n,) bfloat16

It replaces `matrix` among the tensors of a whitening; the others, such as `mean`, stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from distill_core.data.cosines import cosine_basis
from registry import InputError

RMS_ERROR = 0.07  # of whitened pixels, in units of their root mean square
LEAST = 2**20  # bytes of a matrix; a smaller one stays as it is
MATRIX, DIAGONAL, COUNTS, COLUMNS, VALUES = "matrix", "diagonal", "counts", "columns", "values"
PARTS = {DIAGONAL, COUNTS, COLUMNS, VALUES}
SEARCH = 40  # halvings of a bound
HOW_TO_LOAD = """\
from safetensors.torch import load_file; import torch
w = load_file('whitening.safetensors')
def waves(n):
    rows = torch.cos(torch.pi / n * torch.arange(n)[:, None] * (torch.arange(n) + 0.5))
    rows[0] /= 2 ** 0.5
    return rows * (2 / n) ** 0.5
d = len(w['diagonal'])
half = torch.zeros(d, d)
rows = torch.arange(d).repeat_interleave(w['counts'].long())
half[rows, w['columns'].long()] = w['values'].float()
basis = torch.kron(torch.kron(waves({0}), waves({1})), waves({2}))
matrix = basis.T @ (half + half.T + w['diagonal'].diag()) @ basis
"""


class Compact(NamedTuple):
    """A whitening whose matrix is stored in few numbers.

    Attributes:
        tensors: to store.
        rms_error: of whitened pixels, in units of their root mean square: an estimate from the
            matrix alone, for images like those that it was fitted to.
    """

    tensors: dict[str, Tensor]
    rms_error: float


def compact(
    tensors: Mapping[str, Tensor],
    image_shape: tuple[int, int, int],
    rms_error: float = RMS_ERROR,
) -> Compact | None:
    """Return a whitening in few numbers; None if it has no large matrix, or needs many of them.

    Args:
        tensors: of a whitening.
        image_shape: C, h, w.
        rms_error: the largest error that is allowed.
    """
    matrix = tensors.get(MATRIX)
    if matrix is None or matrix.nbytes < LEAST:
        return None
    over_waves = _to_waves(matrix, image_shape)
    over_waves = (over_waves + over_waves.T) / 2
    weights, whole = _errors(over_waves)
    bound = _largest_bound(weights, rms_error**2 * whole)
    rows, columns = (weights > bound).nonzero(as_tuple=True)
    if 4 * len(rows) + 6 * len(matrix) > matrix.nbytes / 2:
        return None
    left_out = torch.where(weights > bound, 0, weights).sum(dtype=torch.float64)
    counts = torch.bincount(rows, minlength=len(matrix))
    found = {
        DIAGONAL: over_waves.diagonal().clone(),
        COUNTS: counts.to(torch.int16),
        COLUMNS: columns.to(torch.int16),
        VALUES: over_waves[rows, columns].to(torch.bfloat16),
    }
    others = {name: tensor for name, tensor in tensors.items() if name != MATRIX}
    return Compact({**others, **found}, math.sqrt(float(left_out) / whole))


def is_compact(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether tensors of a whitening have a compact matrix."""
    return tensors.keys() >= PARTS


def expanded(tensors: Mapping[str, Tensor], image_shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Return the tensors of a whitening with its matrix (d, d) float32, symmetric.

    Args:
        tensors: of `compact`.
        image_shape: C, h, w.

    Raises:
        InputError: they do not fit the images or each other.
    """
    d = math.prod(image_shape)
    diagonal, counts, columns, values = (
        tensors[name] for name in (DIAGONAL, COUNTS, COLUMNS, VALUES)
    )
    counts, columns = counts.long(), columns.long()
    sound = (
        diagonal.shape == counts.shape == (d,)
        and columns.shape == values.shape == (int(counts.sum()),)
        and bool((counts >= 0).all() and (columns >= 0).all() and (columns < d).all())
    )
    if not sound:
        raise InputError(
            f"the compact matrix of its whitening does not fit images {tuple(image_shape)}.",
            expected=f"a diagonal of {d} numbers, and as many others as its rows say.",
            next="restore it from a copy, or ask who made it.",
        )
    over_waves = torch.zeros(d, d)
    over_waves[torch.arange(d).repeat_interleave(counts), columns] = values.float()
    over_waves = over_waves + over_waves.T
    over_waves.diagonal().copy_(diagonal)
    found = {name: tensor for name, tensor in tensors.items() if name not in PARTS}
    matrix = _from_waves(over_waves, image_shape)
    return {**found, MATRIX: (matrix + matrix.T) / 2}


def how_to_load(image_shape: tuple[int, int, int]) -> str:
    """Return plain code that makes the matrix from the tensors, without distill."""
    return HOW_TO_LOAD.format(*image_shape)


def _errors(over_waves: Tensor) -> tuple[Tensor, float]:
    """Return the squared error without each number, and the square of all that is whitened.

    The diagonal is about (l + r)**-0.5 with l the variance of the images along a wave and r the
    regulariser, so l follows from it.

    Returns:
        (d, d), zero outside of the strict upper triangle, whose numbers count twice; and a sum.
    """
    squared = over_waves.diagonal().double().clamp_min(torch.finfo(torch.float32).tiny) ** -2
    variance = (squared - squared.min()).float()
    if not bool(variance.any()):
        variance = torch.ones_like(variance)  # of white images
    energy = over_waves.square()
    whole = float((energy * variance).sum(dtype=torch.float64))
    return energy.mul_(variance[:, None] + variance).triu_(1), whole


def _largest_bound(weights: Tensor, allowed: float) -> float:
    """Return a bound, such that all weights up to it have a sum of at most `allowed`."""
    weights = weights[weights > 0]
    low, high = 0.0, float(weights.max()) if len(weights) else 0.0
    for _ in range(SEARCH):
        middle = (low + high) / 2
        left_out = torch.where(weights > middle, 0, weights).sum(dtype=torch.float64)
        low, high = (middle, high) if float(left_out) <= allowed else (low, middle)
    return low


def _to_waves(matrix: Tensor, image_shape: tuple[int, ...]) -> Tensor:
    return _columns(_columns(matrix, image_shape).T, image_shape).T


def _from_waves(matrix: Tensor, image_shape: tuple[int, ...]) -> Tensor:
    return _columns(_columns(matrix, image_shape, back=True).T, image_shape, back=True).T


def _columns(matrix: Tensor, image_shape: tuple[int, ...], *, back: bool = False) -> Tensor:
    """Transform every column of a matrix (d, m), or transform it back, one axis after another."""
    found = matrix.reshape(*image_shape, -1)
    for axis, n in enumerate(image_shape):
        basis = cosine_basis(n, matrix.dtype)
        moved = torch.tensordot(basis.T if back else basis, found, ([1], [axis]))
        found = moved.movedim(0, axis)
    return found.reshape(matrix.shape)

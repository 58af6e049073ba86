"""Kernel ridge regression on the features of a network, as pure functions of tensors.

The kernel is linear in the features, so what is fitted on n items is a last layer without bias,
and predicting is one product with it. Everything is differentiable, to any order.

Source: Zhou et al. 2022 (FRePo, arXiv:2206.00719), equation 4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from distill_core.plugin import DivergenceError, read

JITTER = 10.0  # by how much the ridge grows where the factorisation fails
LARGEST_RIDGE = 1.0


class RidgeHead(NamedTuple):
    """A last layer (d, K), and the ridge with which it could be fitted."""

    weights: Tensor
    ridge: float

    def predict(self, features: Tensor) -> Tensor:
        """Return predictions (N, K) for features (N, d), in the precision of the solve."""
        return features.to(self.weights.dtype) @ self.weights


def fit_ridge_head(features: Tensor, targets: Tensor, *, ridge: float) -> RidgeHead:
    """Fit a last layer by ridge regression, through the kernel matrix of the items.

    Solves (F F^T + ridge t I) W = Y, with t the mean of the diagonal of F F^T, so that `ridge`
    means the same for any network and number of items. Where rounding makes that matrix
    indefinite (items that are nearly collinear), the ridge is enlarged tenfold until it is not.

    Args:
        features: (n, d) F, carries the gradient.
        targets: (n, K) Y, carries the gradient.
        ridge: above 0, relative to the mean of the diagonal.

    Returns:
        F^T W, in float64 where the device has it, and the ridge that was used.

    Raises:
        DivergenceError: the features are all zero or not finite.
    """
    features, targets = widened(features), widened(targets)
    kernel = features @ features.T
    scale = kernel.diagonal().mean()
    finite = torch.isfinite(kernel).all()
    identity = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    while True:
        factor, failed = torch.linalg.cholesky_ex(kernel + ridge * scale * identity)
        size, sound, fault = read(scale, finite, failed)
        if not size > 0 or not sound:
            raise _no_regression(features)
        if not fault:
            return RidgeHead(features.T @ torch.cholesky_solve(targets, factor), ridge)
        if ridge >= LARGEST_RIDGE:
            raise _no_regression(features)
        ridge *= JITTER


def ridge_solve(kernel: Tensor, targets: Tensor, *, penalty: float) -> Tensor:
    """Solve (kernel + penalty I) W = targets for W (n, K); differentiable to any order.

    Args:
        kernel: (n, n), symmetric, without negative eigenvalues.
        targets: (n, K).
        penalty: above 0, on the scale of the kernel.

    Raises:
        DivergenceError: the matrix cannot be factorised in this precision, or is not finite.
    """
    identity = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    factor, failed = torch.linalg.cholesky_ex(kernel + penalty * identity)
    fault, finite = read(failed, torch.isfinite(kernel).all())
    if fault or not finite:
        raise _no_regression(kernel)
    return torch.cholesky_solve(targets, factor)


def centred(labels: Tensor) -> Tensor:
    """Return labels (n, K) less 1/K: regression targets whose rows sum to zero."""
    return labels - 1 / labels.shape[1]


def synthetic_targets(labels: Tensor) -> Tensor:
    """Return the targets of synthetic items with labels (n, K): centred, over sqrt(K / 10).

    Source: FRePo's published code, there the starting values of learned targets.
    """
    return centred(labels) / math.sqrt(labels.shape[1] / 10)


def real_targets(classes: Tensor, num_classes: int) -> Tensor:
    """Return the targets (n, K) of real images of classes (n,): one-hot and centred."""
    targets: Tensor = functional.one_hot(classes, num_classes)
    return centred(widened(targets))


def squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch of the squared error, summed over the classes; both (n, K)."""
    return (predictions - targets.to(predictions)).square().sum(1).mean()


def margin(targets: Tensor, *, most: float) -> Tensor:
    """Mean over the items of the lead of the largest target (n, K), counted up to `most`.

    Source: published code of FRePo and RCIG, which reward it.
    """
    first, second = targets.topk(2, dim=1).values.unbind(1)
    return (first - second).clamp(max=most).mean()


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, where its device has that."""
    return tensor if tensor.device.type == "mps" else tensor.double()


def _no_regression(features: Tensor) -> DivergenceError:
    finite = bool(torch.isfinite(features).all())
    what = "nothing can be told apart by" if finite else "there are numbers that are not finite in"
    return DivergenceError(
        f"kernel regression has no solution: {what} the features of the synthetic images.",
        expected="finite features that are not all zero.",
        next="lower the outer learning rates (-o algo.pixel_lr), or choose another --backbone.",
    )

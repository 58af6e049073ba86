"""The convex inner problem of RCIG: a linearised network whose last layer is regressed.

The body's parameters act only through a tangent vector tau (P,) at fixed base weights: outputs are
J tau, with J the Jacobian of the logits in the body. What they leave is fitted by kernel ridge
regression on the base features, with kernel K and penalty l. Of the energy

    E(tau) = (|Y - o - K w|^2 + l tr(w^T K w) + l |tau|^2) / (2 n K'),   o = J tau,
    w = (K + l I)^-1 (Y - o),   n items, K' classes

remains, with u = Y - o and A = K + l I, just l (tr(u^T A^-1 u) + |tau|^2) / (2 n K'). Its gradient
is l (tau - J^T A^-1 u) / (n K') and its Hessian l (I + J^T A^-1 J) / (n K').

Source: Loo et al. 2023 (RCIG, arXiv:2302.06755), equations of section 4, simplified as above.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distill_core.builtin.algorithms.regression.kernel_regression import ridge_solve, widened
from distill_core.plugin import AutogradJacobian, Backbone, Engine, FlatModel


class Linearised:
    """A network, linear in its body's parameters around those that it has.

    Args:
        backbone: in the mode in which it is to be called; not changed. What it has now counts.
        engine: gives products that need no graph.
    """

    def __init__(self, backbone: Backbone, engine: Engine) -> None:
        self._model = FlatModel(backbone)
        self.jacobian = engine.jacobian(backbone)

    def zero(self) -> Tensor:
        """Return the tangent (P,) of nothing."""
        return torch.zeros_like(self._model.theta)

    def differentiable(self, images: Tensor) -> AutogradJacobian:
        """Return the Jacobian, and the base features, as graphs that lead back to the images."""
        return AutogradJacobian(self._model, images)


class InnerProblem:
    """Energy, gradient and Hessian in tau, for fixed images and targets.

    Args:
        network: linearised.
        images: (n, C, h, w).
        targets: (n, K).
        penalty: l, above 0.
    """

    def __init__(
        self, network: Linearised, images: Tensor, targets: Tensor, *, penalty: float
    ) -> None:
        images, self._targets = images.detach(), widened(targets.detach())
        self._share = penalty / targets.numel()
        self._jacobian = network.jacobian(images)
        with torch.no_grad():
            features = widened(self._jacobian.features)
            # (n, n), once; every step then needs two passes through the network and no solve.
            identity = torch.eye(len(features), dtype=features.dtype, device=features.device)
            self._inverse = ridge_solve(features @ features.T, identity, penalty=penalty)

    def gradient(self, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the energy at a tangent (P,), a scalar, and its gradient."""
        rest = self._targets - self._outputs(tangent)
        solved = self._inverse @ rest
        energy = 0.5 * self._share * ((rest * solved).sum() + widened(tangent @ tangent))
        return energy, self._share * (tangent - self._jacobian.transposed(solved))

    def hessian_product(self, vector: Tensor) -> Tensor:
        """Return the Hessian times a vector (P,); it is the same at every tangent."""
        return self._share * (
            vector + self._jacobian.transposed(self._inverse @ self._outputs(vector))
        )

    def quadratic(self, goal: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """Return the quadratic, with gradient, whose minimum is the inverse Hessian times `goal`.

        Args:
            goal: (P,).
        """

        def value(vector: Tensor) -> tuple[Tensor, Tensor]:
            product = self.hessian_product(vector)
            return 0.5 * vector @ product - vector @ goal, product - goal

        return value

    @torch.no_grad()
    def _outputs(self, tangent: Tensor) -> Tensor:
        return widened(self._jacobian.times(tangent))


def fit_head(
    network: Linearised, images: Tensor, targets: Tensor, tangent: Tensor, *, penalty: float
) -> Tensor:
    """Return the regressed last layer (d, K) on base features: F^T w.

    Differentiable in images, targets and tangent.
    """
    jacobian = network.differentiable(images)
    features = widened(jacobian.features)
    rest = widened(targets) - widened(jacobian.times(tangent))
    return features.T @ ridge_solve(features @ features.T, rest, penalty=penalty)


def gradient_along(
    network: Linearised,
    images: Tensor,
    targets: Tensor,
    *,
    tangent: Tensor,
    vector: Tensor,
    penalty: float,
) -> Tensor:
    """Return <gradient of E at tangent, vector>, differentiable in images and targets."""
    jacobian = network.differentiable(images)
    features = widened(jacobian.features)
    rest = widened(targets) - widened(jacobian.times(tangent))
    along = widened(jacobian.times(vector))
    solved = ridge_solve(features @ features.T, rest, penalty=penalty)
    return penalty / targets.numel() * (widened(tangent) @ widened(vector) - (along * solved).sum())

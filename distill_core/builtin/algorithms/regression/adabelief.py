"""AdaBelief: Adam whose second moment is that of the gradient's surprise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdaBelief(Optimizer):
    """AdaBelief with the constants of optax.

    Source: Zhuang et al. 2020 (arXiv:2010.07468), algorithm 2.

    Args:
        params: parameters or groups of them.
        lr: learning rate of groups that have none.
        betas: decay of the gradient's mean, and of its squared deviation from that.
        eps: added to the root, and to the squared deviation in every step.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]] | Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, grad, eps = self.state[parameter], parameter.grad, group["eps"]
        assert grad is not None
        if not state:
            state["step"] = torch.tensor(0.0)
            state["mean"], state["spread"] = torch.zeros_like(grad), torch.zeros_like(grad)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        steps = float(state["step"])
        state["mean"].lerp_(grad, 1 - beta1)
        surprise = (grad - state["mean"]).square()
        state["spread"].mul_(beta2).add_((1 - beta2) * surprise + eps)
        root = (state["spread"] / (1 - beta2**steps)).sqrt() + eps
        parameter.sub_(group["lr"] / (1 - beta1**steps) * state["mean"] / root)

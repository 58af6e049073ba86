"""RCIG: implicit gradients through a convex inner problem.

Source: Loo et al. 2023 (arXiv:2302.06755), with soft labels as regression targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from distill_core.builtin.adabelief import AdaBelief
from distill_core.builtin.kernel_regression import margin, synthetic_targets
from distill_core.builtin.linearised import InnerProblem, Linearised, fit_head, gradient_along
from distill_core.builtin.network_pool import NetworkPool
from distill_core.builtin.outer_groups import learned_groups
from distill_core.builtin.rcig_options import RcigOptions
from distill_core.builtin.regression_limits import check_rows, may_flip
from distill_core.builtin.tuned_adam import TunedAdam
from distill_core.plugin import (
    Adam,
    Algorithm,
    Batch,
    Recipe,
    Streams,
    SyntheticDataset,
    Task,
)


class _Direct(NamedTuple):
    """The outer loss at a fixed tangent, and its derivatives.

    Attributes:
        loss: without the margin.
        accuracy: on the real batch.
        items: in images and labels of the synthetic items.
        tangent: (P,) in the tangent.
        log_temperature: in the logarithm of the temperature.
    """

    loss: float
    accuracy: float
    items: Batch
    tangent: Tensor
    log_temperature: Tensor


class Rcig(Algorithm):
    """Differentiates the solution of a linearised training by the implicit function theorem."""

    needs_simplex: ClassVar[bool] = False

    def __init__(self, options: RcigOptions, *, task: Task) -> None:
        self.options = options
        self.task = task
        allowed = may_flip(task, asked=options.flip)
        self._flips = allowed if options.flip is None else options.flip
        self._pool = NetworkPool(
            task.new_backbone,
            optimizer=Adam(options.online_lr),
            size=options.pool,
            max_age=options.max_updates,
        )
        self._inner = TunedAdam(options.inner_lr, steps=options.inner_steps)
        self._inverse = TunedAdam(options.inverse_lr, steps=options.inverse_steps)
        self._log_temperature = nn.Parameter(torch.zeros((), device=task.real.train.images.device))
        self._used: int | None = None  # the member of the last outer step, yet to be trained

    def meta_parameters(self) -> Sequence[nn.Parameter]:
        """Return the logarithm of the temperature."""
        return (self._log_temperature,)

    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return AdaBelief with a rate for pixels, labels and temperature."""
        options = self.options
        rates = {
            "data": options.pixel_lr,
            "labels": options.label_lr or options.pixel_lr,
            "algorithm": options.temperature_lr,
        }
        return AdaBelief(learned_groups(groups, rates))

    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> Mapping[str, float]:
        """Train the last member on what the last step left, and leave the next gradient."""
        del step
        self._check_size(synthetic)
        self._pool.fill(rng["backbone"])
        self._train_used(synthetic, rng)
        place = int(torch.randint(self.options.pool, (), generator=rng["pool"]))
        member = self._pool.members[place]
        member.backbone.eval()
        network = Linearised(member.backbone)
        index = self.task.real.train.draw(self.options.real_batch, generator=rng["real"])
        with torch.enable_grad():
            expanded = synthetic.all()
        items = Batch(*(part.detach().requires_grad_() for part in expanded))
        problem = InnerProblem(network, *self._inputs(items), penalty=self._penalty(items))
        tangent = self._inner(problem.gradient, network.zero())
        direct = self._direct(network, items, tangent, index)
        vector = self._inverse(_quadratic(problem, direct.tangent), network.zero())
        implicit = self._implicit(network, items, tangent, vector)
        scales = _leave(synthetic, expanded, direct.items, implicit)
        self._log_temperature.grad = direct.log_temperature
        self._used = place
        return {
            "loss": direct.loss,
            "accuracy": direct.accuracy,
            "age": member.age,
            "temperature": float(self._log_temperature.detach().exp()),
            "inner_lr": self._inner.rate,
            "inverse_lr": self._inverse.rate,
            "implicit_scale": scales,
        }

    def recipe(self) -> Recipe:
        """Return the published training (Adam at 1e-4, cosine, 2000 steps, DSA) by cross-entropy.

        Published is the squared error of centred labels, after a warm-up of 500 steps.
        """
        return Recipe(
            optimizer="adam", lr=1e-4, schedule="cosine", batch_size=256, steps=2000, augment="dsa"
        )

    def notes(self) -> Mapping[str, str]:
        """Say what the pool and the inner problem are."""
        options = self.options
        return {
            "pool": f"{options.pool} networks, fresh after {options.max_updates} updates at "
            f"{options.online_lr:g}",
            "inner problem": f"{options.inner_steps} steps, {options.inverse_steps} for the "
            "inverse Hessian",
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the pool, which member is yet to be trained, and both rates."""
        return {
            "pool": self._pool.state_dict(),
            "used": self._used,
            "inner": self._inner.state_dict(),
            "inverse": self._inverse.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._pool.load_state_dict(state["pool"])
        self._used = state["used"]
        self._inner.load_state_dict(state["inner"])
        self._inverse.load_state_dict(state["inverse"])

    def _train_used(self, synthetic: SyntheticDataset, rng: Streams) -> None:
        if self._used is None:
            return
        with torch.no_grad():
            images, labels = synthetic.all()
        count = int(torch.randint(self.options.most_updates, (), generator=rng["pool"])) + 1
        for _ in range(count):
            self._pool.members[self._used].train(
                images, synthetic_targets(labels), chunk=self.task.engine.microbatch
            )
        self._pool.replace_if_old(self._used, rng["backbone"])

    def _inputs(self, items: Batch) -> Batch:
        """Images and targets of the inner problem, with mirrored copies."""
        images, targets = items.images, synthetic_targets(items.labels)
        if not self._flips:
            return Batch(images, targets)
        return Batch(torch.cat([images, images.flip(3)]), targets.repeat(2, 1))

    def _penalty(self, items: Batch) -> float:
        return self.options.l2_rate * len(items.labels)

    def _direct(self, network: Linearised, items: Batch, tangent: Tensor, index: Tensor) -> _Direct:
        """Derivatives of the outer loss at a fixed tangent, chunk by chunk of the real batch."""
        train, size = self.task.real.train, len(index)
        tangent = tangent.detach().requires_grad_()
        with torch.enable_grad():
            fitted = fit_head(network, *self._inputs(items), tangent, penalty=self._penalty(items))
        head = fitted.detach().requires_grad_()
        leaves = (tangent, head, self._log_temperature)
        sums = [torch.zeros_like(leaf) for leaf in leaves]
        value, right = 0.0, 0
        for part in torch.split(index, self.task.engine.real_chunk):
            images, classes = train.take(part), train.labels[part]
            with torch.enable_grad():
                outputs = network.outputs(images, tangent).to(head.dtype)
                outputs = outputs + network.features(images).detach().to(head.dtype) @ head
                logits = self._log_temperature.exp() * outputs
                loss = len(part) / size * cross_entropy(logits, classes)
            found = torch.autograd.grad(loss, leaves)
            sums = [total + more for total, more in zip(sums, found, strict=True)]
            value += float(loss.detach())
            right += int((logits.detach().argmax(1) == classes).sum())
        through = torch.autograd.grad(fitted, (*items, tangent), sums[1])
        images_grad, labels_grad = through[0], through[1]
        if self.options.margin:
            reward, reward_grad = _margin(items.labels)
            value, labels_grad = value - reward, labels_grad - reward_grad
        return _Direct(
            value, right / size, Batch(images_grad, labels_grad), sums[0] + through[2], sums[2]
        )

    @torch.enable_grad()
    def _implicit(
        self, network: Linearised, items: Batch, tangent: Tensor, vector: Tensor
    ) -> Batch:
        """What the solution's dependence on the items adds: - d <v, gradient of E> / d items."""
        along = gradient_along(
            network,
            *self._inputs(items),
            tangent=tangent,
            vector=vector,
            penalty=self._penalty(items),
        )
        return Batch(*torch.autograd.grad(-along, items))

    def _check_size(self, synthetic: SyntheticDataset) -> None:
        check_rows("rcig", len(synthetic), flips=self._flips, most=self.options.max_items)


def _quadratic(problem: InnerProblem, goal: Tensor) -> Any:
    """The quadratic whose minimum is the inverse Hessian times `goal` (P,)."""

    def value(vector: Tensor) -> tuple[float, Tensor]:
        product = problem.hessian_product(vector)
        return float(0.5 * vector @ product - vector @ goal), product - goal

    return value


@torch.enable_grad()
def _margin(labels: Tensor) -> tuple[float, Tensor]:
    """The margin of labels (n, K), counted up to 1/(2K), and its gradient."""
    value = margin(labels, most=0.5 / labels.shape[1])
    return float(value.detach()), torch.autograd.grad(value, labels)[0]


def _leave(synthetic: SyntheticDataset, expanded: Batch, direct: Batch, implicit: Batch) -> float:
    """Leave the sum of both gradients in `.grad`, and return the smallest scale.

    In every parameter the implicit one is scaled down to the norm of the direct one; where it is
    not finite it is left out.
    """
    parameters = [p for group in synthetic.groups().values() for p in group]
    places = [place for place, part in enumerate(expanded) if part.requires_grad]
    made = [expanded[place] for place in places]

    def through(items: Batch) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            made, parameters, [items[p] for p in places], retain_graph=True, materialize_grads=True
        )

    smallest = 1.0
    for parameter, one, other in zip(parameters, through(direct), through(implicit), strict=True):
        finite = bool(torch.isfinite(other).all())
        scale = min(1.0, float(one.norm()) / max(float(other.norm()), 1e-30)) if finite else 0.0
        parameter.grad = one + scale * other if finite else one
        smallest = min(smallest, scale)
    return smallest

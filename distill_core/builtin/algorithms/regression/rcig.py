"""RCIG: implicit gradients through a convex inner problem.

Source: Loo et al. 2023 (arXiv:2302.06755), with soft labels as regression targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from distill_core.builtin.algorithms.outer_groups import learned_groups
from distill_core.builtin.algorithms.regression.adabelief import AdaBelief
from distill_core.builtin.algorithms.regression.implicit import Direct, leave_both
from distill_core.builtin.algorithms.regression.kernel_regression import (
    margin,
    synthetic_targets,
    widened,
)
from distill_core.builtin.algorithms.regression.limits import check_rows, may_flip
from distill_core.builtin.algorithms.regression.linearised import (
    InnerProblem,
    Linearised,
    fit_head,
    gradient_along,
)
from distill_core.builtin.algorithms.regression.network_pool import NetworkPool, OnlineNetwork
from distill_core.builtin.algorithms.regression.options import RcigOptions
from distill_core.builtin.algorithms.regression.tuned_adam import Problem, TunedAdam, minimise
from distill_core.builtin.algorithms.step_cost import Lap, measure_parts
from distill_core.plugin import (
    Adam,
    Algorithm,
    Batch,
    Estimate,
    Recipe,
    Streams,
    SyntheticDataset,
    Task,
    read,
)

Search = Callable[[Problem, Tensor], Tensor]


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
            engine=task.engine,
        )
        self._inner = TunedAdam(options.inner_lr, steps=options.inner_steps)
        self._inverse = TunedAdam(options.inverse_lr, steps=options.inverse_steps)
        self._log_temperature = nn.Parameter(torch.zeros((), device=task.real.train.device))
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
        index = self.task.real.train.draw(self.options.real_batch, generator=rng["real"])
        direct, scale = self._differentiate(member, synthetic, index, (self._inner, self._inverse))
        self._log_temperature.grad = direct.log_temperature
        self._used = place
        loss, right, temperature = read(
            direct.loss, direct.right, self._log_temperature.detach().exp()
        )
        return {
            "loss": loss,
            "accuracy": right / len(index),
            "age": member.age,
            "temperature": temperature,
            "inner_lr": self._inner.rate,
            "inverse_lr": self._inverse.rate,
            "implicit_scale": scale,
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
            "pool": str(self._pool),
            "inner problem": f"{options.inner_steps} steps, {options.inverse_steps} for the "
            "inverse Hessian",
        }

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate:
        """Do the parts of an outer step with a network of its own, and few steps of each search."""
        del rng  # the run's streams stay where they are
        self._check_size(synthetic)
        options, own = self.options, Streams(0)
        size = min(options.real_batch, len(self.task.real.train))
        chunk = min(size, self.task.engine.real_chunk)
        member = self._pool.fresh(own["backbone"])
        index = self.task.real.train.draw(chunk, generator=own["real"])
        times, peak = measure_parts(
            lambda lap: self._measure(member, synthetic, index, lap), synthetic, index.device
        )
        # A search ends by asking for the last value.
        phases = {
            "online updates": (options.most_updates + 1) / 2 * times[0],
            "inner problem": (options.inner_steps + 1) / 2 * times[1],
            "real images": size / chunk * times[2],
            "inverse Hessian": (options.inverse_steps + 1) / 2 * times[3],
            "implicit gradient": times[4],
        }
        return Estimate(
            seconds=sum(phases.values()),
            phases=phases,
            memory=peak + self._pool.coming_bytes(member),
            measured=f"an online update, a step of each search, and {chunk} real images of {size} "
            "were run; the memory holds the pool twice.",
        )

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

    def _differentiate(
        self,
        member: OnlineNetwork,
        synthetic: SyntheticDataset,
        index: Tensor,
        searches: tuple[Search, Search],
        lap: Lap = lambda: None,
    ) -> tuple[Direct, float]:
        """Leave the hypergradient of pixels and labels; return also the implicit one's scale.

        Args:
            member: the network.
            synthetic: what is differentiated.
            index: (N,) real images.
            searches: solve the inner problem, and find the inverse Hessian times a vector.
            lap: called after each part.
        """
        member.backbone.eval()
        network = Linearised(member.backbone, self.task.engine)
        with torch.enable_grad():
            expanded = synthetic.all()
        items = Batch(*(part.detach().requires_grad_() for part in expanded))
        problem = InnerProblem(network, *self._inputs(items), penalty=self._penalty(items))
        inner, inverse = searches
        tangent = inner(problem.gradient, network.zero())
        lap()
        direct = self._direct(network, items, tangent, index)
        lap()
        vector = inverse(problem.quadratic(direct.tangent), network.zero())
        lap()
        implicit = self._implicit(network, items, tangent, vector)
        scale = leave_both(synthetic, expanded, direct.items, implicit)
        lap()
        return direct, scale

    def _measure(
        self, member: OnlineNetwork, synthetic: SyntheticDataset, index: Tensor, lap: Lap
    ) -> None:
        """Do an online update and the parts of `_differentiate`, with searches of one step."""

        def search(problem: Problem, start: Tensor) -> Tensor:
            return minimise(problem, start, rate=self.options.inner_lr, steps=1).point

        with torch.no_grad():
            images, labels = synthetic.all()
        member.train(images, synthetic_targets(labels), chunk=self.task.engine.microbatch)
        lap()
        self._differentiate(member, synthetic, index, (search, search), lap)

    def _inputs(self, items: Batch) -> Batch:
        """Images and targets of the inner problem, with mirrored copies."""
        images, targets = items.images, synthetic_targets(items.labels)
        if not self._flips:
            return Batch(images, targets)
        return Batch(torch.cat([images, images.flip(3)]), targets.repeat(2, 1))

    def _penalty(self, items: Batch) -> float:
        return self.options.l2_rate * len(items.labels)

    def _direct(self, network: Linearised, items: Batch, tangent: Tensor, index: Tensor) -> Direct:
        """Derivatives of the outer loss at a fixed tangent, chunk by chunk of the real batch."""
        train, size = self.task.real.train, len(index)
        tangent = tangent.detach().requires_grad_()
        with torch.enable_grad():
            fitted = fit_head(network, *self._inputs(items), tangent, penalty=self._penalty(items))
        head = fitted.detach().requires_grad_()
        sums = [torch.zeros_like(leaf) for leaf in (tangent, head, self._log_temperature)]
        value = widened(tangent.new_zeros(()))
        right = torch.zeros((), dtype=torch.int64, device=tangent.device)
        for part in torch.split(index, self.task.engine.real_chunk):
            jacobian, classes = network.jacobian(train.take(part)), train.labels[part]
            with torch.no_grad():
                along = jacobian.times(tangent)
            with torch.enable_grad():
                along.requires_grad_()
                outputs = along.to(head.dtype) + jacobian.features.detach().to(head.dtype) @ head
                logits = self._log_temperature.exp() * outputs
                loss = len(part) / size * cross_entropy(logits, classes)
            in_outputs, *others = torch.autograd.grad(loss, (along, head, self._log_temperature))
            found = [jacobian.transposed(in_outputs), *others]
            sums = [total + more for total, more in zip(sums, found, strict=True)]
            value += loss.detach()
            right += (logits.detach().argmax(1) == classes).sum()
        through = torch.autograd.grad(fitted, (*items, tangent), sums[1])
        images_grad, labels_grad = through[0], through[1]
        if self.options.margin:
            reward, reward_grad = _margin(items.labels)
            value, labels_grad = value - reward, labels_grad - reward_grad
        return Direct(value, right, Batch(images_grad, labels_grad), sums[0] + through[2], sums[2])

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


@torch.enable_grad()
def _margin(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The margin of labels (n, K), counted up to 1/(2K), and its gradient."""
    value = margin(labels, most=0.5 / labels.shape[1])
    return value.detach(), torch.autograd.grad(value, labels)[0]

"""DC and DSA: the gradients of a network on synthetic images of a class, matched to real ones.

Source: Zhao et al. 2021 (arXiv:2006.05929); Zhao & Bilen 2021 (arXiv:2102.08259), which adds the
augmentation. Soft labels are ours and reduce to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from distill_core.builtin.algorithms.matching.by_class import (
    RealClasses,
    class_shares,
    draw_classes,
    draw_siamese,
    matched_classes,
    matching_recipe,
    outer_sgd,
)
from distill_core.builtin.algorithms.matching.gradient_distance import gradient_distance
from distill_core.builtin.algorithms.matching.options import DcOptions
from distill_core.builtin.algorithms.outer_groups import finish_gradients
from distill_core.builtin.algorithms.step_cost import Lap, measure_parts
from distill_core.plugin import (
    Algorithm,
    Augmentation,
    Batch,
    Draw,
    Estimate,
    InnerBatches,
    InnerLoss,
    InputError,
    Recipe,
    Streams,
    SyntheticDataset,
    Task,
    all_to_device,
    mixes_images,
    read,
    real_sums,
)


@dataclass
class _Ageing:
    """A network that several outer steps share.

    Attributes:
        born: the state of the generator that made it; with it, it can be made again.
        loss: its derivatives.
        theta: (P,) its parameters now.
        passes: outer steps that it has served.
    """

    born: Tensor
    loss: InnerLoss
    theta: Tensor
    passes: int = 0


class _Class(NamedTuple):
    """A class that is matched: its number, its items (n,), and its augmentation."""

    label: int
    members: Tensor
    draw: Draw


class GradientMatching(Algorithm):
    """Matches gradients class by class, under a network that trains on the synthetic images.

    The published code takes several steps on the pixels for each network. Here every one of them
    is an outer step: the network is kept in between, and trained, on what the update made of the
    images, when the next one begins.
    """

    def __init__(self, options: DcOptions, *, task: Task) -> None:
        spec = task.real.spec
        _refuse_batch_norm(task)
        self.options = options
        self.learns_labels = options.learn_labels
        self.task = task
        self._augmentation = Augmentation.named(options.augment, spec.augmentations)
        self._real = RealClasses(task.real.train, spec.num_classes)
        self._network: _Ageing | None = None

    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return SGD over the pixels, and over labels if they are to be learned."""
        options = self.options
        rates = {"data": options.pixel_lr}
        if options.learn_labels:
            rates["labels"] = options.label_lr or options.pixel_lr
        return outer_sgd(groups, rates, momentum=options.momentum)

    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> Mapping[str, float]:
        """Leave the gradient of the distance, summed over classes, in `.grad`."""
        del step
        passes, epochs = self.options.loops(len(synthetic) / synthetic.spec.num_classes)
        network = self._network
        if network is None:
            network = self._fresh(rng["backbone"])
        else:
            network.theta = self._trained(network, synthetic, epochs, rng)
        classes = draw_classes(
            synthetic.spec.num_classes, self.options.class_batch, generator=rng["classes"]
        )
        metrics = self._match(network, synthetic, classes, rng)
        network.passes += 1
        self._network = network if network.passes < passes else None
        return {
            **metrics,
            **finish_gradients(synthetic, normalize=self.options.coverage_normalize),
            "pass": network.passes,
        }

    def recipe(self) -> Recipe:
        """Return the training of the published evaluation."""
        return matching_recipe(self.options.augment)

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate:
        """Match one class, the largest, train for one epoch, and extrapolate."""
        del rng  # the run's streams stay where they are
        num_classes = synthetic.spec.num_classes
        passes, epochs = self.options.loops(len(synthetic) / num_classes)
        (matching, training), memory = measure_parts(
            lambda lap: self._measure(synthetic, lap), synthetic, self.task.real.train.labels.device
        )
        classes = min(self.options.class_batch or num_classes, num_classes)
        mean_epochs = epochs * (passes - 1) / passes
        phases = {"matching": classes * matching, "training": mean_epochs * training}
        return Estimate(
            seconds=sum(phases.values()),
            phases=phases,
            memory=memory,
            measured="a class was matched and the network trained for an epoch, for "
            f"{classes} classes and {mean_epochs:g} epochs on average.",
        )

    def _measure(self, synthetic: SyntheticDataset, lap: Lap) -> None:
        """Match the class with most items, and train for an epoch."""
        rng = Streams(0)
        with torch.no_grad():
            shares = class_shares(synthetic.all().labels, self.options.threshold)
        largest = int((shares > 0).sum(0).argmax())
        network = self._fresh(rng["backbone"])
        self._match(network, synthetic, [largest], rng)
        finish_gradients(synthetic, normalize=self.options.coverage_normalize)
        lap()
        self._trained(network, synthetic, 1, rng)
        lap()

    def state_dict(self) -> dict[str, Any]:
        """Return the network that the next outer step goes on with, if there is one."""
        network = self._network
        if network is None:
            return {}
        return {"born": network.born, "theta": network.theta, "passes": network.passes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._network = None
        if state:
            network = self._fresh(Generator().set_state(state["born"]))
            network.theta = state["theta"].to(network.theta)
            network.passes = int(state["passes"])
            self._network = network

    def _fresh(self, generator: Generator) -> _Ageing:
        born = generator.get_state()
        loss = self.task.engine.loss(self.task.new_backbone(generator))
        return _Ageing(born, loss, loss.model.theta)

    @torch.no_grad()
    def _trained(
        self, network: _Ageing, synthetic: SyntheticDataset, epochs: int, rng: Streams
    ) -> Tensor:
        """Return the network's parameters after some epochs of SGD on the synthetic images."""
        options, hw = self.options, synthetic.spec.image_shape[1:]
        size = min(options.net_batch, len(synthetic))
        steps = epochs * -(-len(synthetic) // size)
        passes = synthetic.batches(size, generator=rng["draw"])
        boxes = [next(passes) for _ in range(steps)]
        draws = [self._augmentation.draw(len(b), hw, generator=rng["augment"]) for b in boxes]
        batches, theta = InnerBatches(synthetic, boxes, draws), network.theta
        for step in range(steps):
            theta = theta - options.net_lr * network.loss.evaluate(theta, batches(step)).gradient
        return theta

    def _match(
        self, network: _Ageing, synthetic: SyntheticDataset, classes: Sequence[int], rng: Streams
    ) -> dict[str, float]:
        """Leave the gradient of the distance in `.grad`, class by class: memory is that of one."""
        options, num_classes = self.options, synthetic.spec.num_classes
        made = synthetic.at(synthetic.draw(len(synthetic), generator=rng["draw"]))
        images = made.images.detach().requires_grad_(made.images.requires_grad)
        labels = made.labels.detach()
        labels.requires_grad_(options.learn_labels and made.labels.requires_grad)
        shares = class_shares(labels, options.threshold)
        # The host waits here, for the items of all classes, and at the end, for all distances.
        sharing = (shares.detach() != 0).cpu()
        matched = matched_classes(sharing, classes)
        draws = draw_siamese(
            self._augmentation,
            synthetic.spec.image_shape[1:],
            len(matched),
            per_class=options.mode == "per_class_aug",
            rng=rng,
            device=images.device,
        )
        index = self._real.draw(matched, options.real_batch, generator=rng["real"])
        members = all_to_device(
            [sharing[:, label].nonzero().flatten() for label in matched], images.device
        )
        classes_drawn = [_Class(*each) for each in zip(matched, members, draws, strict=True)]
        scale, distances = num_classes / len(classes), []
        for each, chosen in zip(classes_drawn, index, strict=True):
            real = self._real_gradient(network, chosen, each.draw)
            items = Batch(images, shares)
            distances.append(self._match_class(network, items, real, each, scale=scale))
        _pass_on(made, Batch(images, labels))
        total = sum((scale * distance for distance in read(*distances)), 0.0)
        return {"loss": total, "unmatched_classes": len(classes) - len(matched)}

    def _real_gradient(self, network: _Ageing, index: Tensor, draw: Draw) -> Tensor:
        """(P,) gradient of the mean loss on the real images `index`, all of one class."""
        train, chunk = self.task.real.train, self.task.engine.real_chunk
        draw = draw.shared(len(index))
        return real_sums(network.loss, network.theta, train, index, draw, chunk=chunk).cotangent

    def _match_class(
        self, network: _Ageing, items: Batch, real: Tensor, drawn: _Class, *, scale: float
    ) -> Tensor:
        """Return the distance of a class; its gradient, times `scale`, is added to the leaves.

        The class's gradient is g = sum_i s_i grad CE(f(x_i), label), with s_i the share of item
        i: cross-entropy is linear in labels, so it is the gradient for labels n s_i at `label`
        and 0 elsewhere. With v the derivative of the distance in g, the distance has in images
        and shares the derivative of <g, v>, which the engine gives without a graph of g.

        Args:
            network: at its present parameters.
            items: images (n, C, h, w), a leaf, and the shares (n, K) of the items in classes.
            real: (P,) the gradient to match.
            drawn: the class.
            scale: factor of the loss.
        """
        label, members, draw = drawn
        share = items.labels[members, label]
        with torch.enable_grad():
            augmented = Augmentation.apply(items.images[members], draw.shared(len(members)))
        targets = share.detach().new_zeros(len(members), network.loss.model.num_classes)
        targets[:, label] = len(members) * share.detach()
        batch = Batch(augmented.detach(), targets)
        found = network.loss.evaluate(network.theta, batch).gradient.requires_grad_()
        with torch.enable_grad():
            distance = gradient_distance(
                found, real, network.loss.model.places(), self.options.distance
            )
        (vector,) = torch.autograd.grad(distance, found)
        product = network.loss.product(network.theta, batch, scale * vector)
        in_share = len(members) * product.labels[:, label]
        pairs = [(augmented, product.images), (share, in_share)]
        _backward(pairs, keep_graph=True)  # all classes share the graph of the shares
        return distance.detach()


def _pass_on(made: Batch, leaves: Batch) -> None:
    """Pass the gradients that leaves have collected on to what they were made from."""
    _backward([(part, leaf.grad) for part, leaf in zip(made, leaves, strict=True)])


def _backward(pairs: Sequence[tuple[Tensor, Tensor | None]], *, keep_graph: bool = False) -> None:
    """Pass cotangents back through tensors; pairs that have no gradient are left out."""
    kept = [(made, grad) for made, grad in pairs if made.requires_grad and grad is not None]
    torch.autograd.backward(
        [made for made, _ in kept], [grad for _, grad in kept], retain_graph=keep_graph
    )


def _refuse_batch_norm(task: Task) -> None:
    if mixes_images(task.new_backbone(Generator().manual_seed(0))):
        raise InputError(
            "gradients of one class cannot be matched under a network with batch normalisation: "
            "it normalises by the images of a batch, which are all of that class.",
            expected="a network that treats every image by itself.",
            next="pass -o backbone.norm=instance (the default), or choose another --backbone or "
            "--algo dm.",
        )

"""DM: the mean features of every class of synthetic images, matched to those of real images.

Source: Zhao & Bilen 2023 (arXiv:2110.04181); soft labels are ours and reduce to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
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
from distill_core.builtin.algorithms.matching.options import DmOptions
from distill_core.builtin.algorithms.outer_groups import finish_gradients
from distill_core.builtin.algorithms.step_cost import Lap, measure_parts
from distill_core.plugin import (
    Algorithm,
    Augmentation,
    Draw,
    Estimate,
    Features,
    Recipe,
    Streams,
    SyntheticDataset,
    Task,
    all_to_device,
    mixes_images,
    to_device,
)


class _Made(NamedTuple):
    """What one outer step matches.

    Attributes:
        embed: the features of a network.
        mixes: they depend on the other images of a batch.
        images: (n, C, h, w) all items; carries the gradient.
        shares: (n, k) their weights in the means of k classes, without gradient.
        classes: those classes.
        items: the numbers of the items that have a share of each of them, on the CPU.
        draws: the augmentation of each of them.
        scale: factor of the loss.
        unmatched: number of drawn classes without an item.
    """

    embed: Features
    mixes: bool
    images: Tensor
    shares: Tensor
    classes: list[int]
    items: list[Tensor]
    draws: list[Draw]
    scale: float
    unmatched: int


class DistributionMatching(Algorithm):
    """Compares class means of features under a fresh random network in every outer step.

    Labels get no hypergradient: moving label mass to other classes lowers the loss without any
    use for training.
    """

    learns_labels = False

    def __init__(self, options: DmOptions, *, task: Task) -> None:
        spec = task.real.spec
        self.options = options
        self.task = task
        self._augmentation = Augmentation.named(options.augment, spec.augmentations)
        self._real = RealClasses(task.real.train, spec.num_classes)

    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return SGD over the pixels."""
        return outer_sgd(groups, {"data": self.options.pixel_lr}, momentum=self.options.momentum)

    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> Mapping[str, float]:
        """Leave the gradient of the squared distances of all class means in `.grad`."""
        del step
        made = self._prepare(synthetic, rng)
        real = self._real_means(made, rng)
        loss = ((self._means(made) - real) ** 2).sum() * made.scale
        torch.autograd.backward(loss)
        return {
            "loss": float(loss.detach()),
            **finish_gradients(synthetic, normalize=self.options.coverage_normalize),
            "unmatched_classes": made.unmatched,
        }

    def recipe(self) -> Recipe:
        """Return the training of the published evaluation."""
        return matching_recipe(self.options.augment)

    def notes(self) -> Mapping[str, str]:
        """Say what becomes of labels."""
        return {"labels": "stay as they are; published runs start from real images"}

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate:
        """Run an outer step with the real images of one class, and extrapolate."""
        del rng  # the run's streams stay where they are
        ratio = 1.0

        def run(lap: Lap) -> None:
            nonlocal ratio
            ratio = self._measure(synthetic, lap)

        (part, matching), memory = measure_parts(run, synthetic, self.task.real.train.labels.device)
        real = ratio * part
        phases = {"real images": real, "synthetic images": matching}
        size = self.options.real_batch
        return Estimate(
            seconds=real + matching,
            phases=phases,
            memory=memory,
            measured=f"a step was run, with at most {size} real images of one class in place of all"
            " classes.",
        )

    def _measure(self, synthetic: SyntheticDataset, lap: Lap) -> float:
        """Match the real images of one class; return how many classes a step has for each."""
        rng = Streams(0)
        made = self._prepare(synthetic, rng)
        # A network that mixes images needs all of them.
        some = len(made.classes) if made.mixes else 1
        part = made._replace(classes=made.classes[:some], draws=made.draws[:some])
        real = self._real_means(part, rng)
        lap()
        torch.autograd.backward(((self._means(made) - real) ** 2).sum())
        finish_gradients(synthetic, normalize=self.options.coverage_normalize)
        lap()
        return len(made.classes) / some

    def _prepare(self, synthetic: SyntheticDataset, rng: Streams) -> _Made:
        """Make a network, expand the items, and draw classes and their augmentations."""
        options, num_classes = self.options, synthetic.spec.num_classes
        backbone = self.task.new_backbone(rng["backbone"]).requires_grad_(False)
        batch = synthetic.at(synthetic.draw(len(synthetic), generator=rng["draw"]))
        shares = class_shares(batch.labels.detach(), options.threshold)
        sharing = (shares != 0).cpu()
        matched: list[int] = []
        while not matched:  # of a few drawn classes none may have an item
            classes = draw_classes(num_classes, options.class_batch, generator=rng["classes"])
            matched = matched_classes(sharing, classes)
        draws = draw_siamese(
            self._augmentation,
            synthetic.spec.image_shape[1:],
            len(matched),
            per_class=options.mode == "per_class_aug",
            rng=rng,
            device=shares.device,
        )
        return _Made(
            embed=self.task.engine.features(backbone),
            mixes=mixes_images(backbone),
            images=batch.images,
            shares=shares[:, to_device(torch.tensor(matched), shares.device)],
            classes=matched,
            items=[sharing[:, label].nonzero().flatten() for label in matched],
            draws=draws,
            scale=num_classes / len(classes),
            unmatched=len(classes) - len(matched),
        )

    def _means(self, made: _Made) -> Tensor:
        """(k, d) mean features of synthetic images for k classes, from one forward pass for all.

        Where classes differ in augmentation, an image is passed once for every class that it
        has a share of.
        """
        images, draws = made.images, made.draws
        if all(draw is draws[0] for draw in draws) or not draws[0].operation:
            augmented = Augmentation.apply(images, draws[0].shared(len(images)))
            return made.shares.T @ made.embed(augmented)
        counts = torch.tensor([len(members) for members in made.items])
        of_class = torch.arange(len(counts)).repeat_interleave(counts)
        # The gradient of every class has the size of what it indexes: few of many items at first.
        used, row = torch.unique(torch.cat(made.items), return_inverse=True)
        used, row, column = all_to_device([used, row, of_class], images.device)
        images, shares = images[used], made.shares[used]
        parts = [
            Augmentation.apply(images[members], draw.shared(len(members)))
            for members, draw in zip(torch.split(row, counts.tolist()), draws, strict=True)
        ]
        features = made.embed(torch.cat(parts))
        weighted = shares[row, column, None] * features
        return features.new_zeros(len(draws), features.shape[1]).index_add(0, column, weighted)

    @torch.no_grad()
    def _real_means(self, made: _Made, rng: Streams) -> Tensor:
        """(k, d) mean features of a real batch of each class, some images at a time.

        A network that normalises over batches sees the images of all classes at once.
        """
        size, train = self.options.real_batch, self.task.real.train
        index = self._real.draw(made.classes, size, generator=rng["real"])
        parts = [
            (members, draw.shared(len(members)))
            for members, draw in zip(index, made.draws, strict=True)
        ]
        if made.mixes:
            images = [Augmentation.apply(train.take(members), draw) for members, draw in parts]
            features = made.embed(torch.cat(images))
            by_class = torch.split(features, [len(each) for each in index])
            return torch.stack([each.mean(0) for each in by_class])
        return torch.stack([self._real_mean(made.embed, *part) for part in parts])

    def _real_mean(self, embed: Features, index: Tensor, draw: Draw) -> Tensor:
        """(d,) mean features of the real images `index`."""
        chunk, total = self.task.engine.real_chunk, None
        for start in range(0, len(index), chunk):
            part = slice(start, start + chunk)
            images = Augmentation.apply(self.task.real.train.take(index[part]), draw[part])
            features = embed(images).sum(0)
            total = features if total is None else total + features
        assert total is not None
        return total / len(index)

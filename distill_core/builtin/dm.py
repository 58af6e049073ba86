"""DM: the mean features of every class of synthetic images, matched to those of real images.

Source: Zhao & Bilen 2023 (arXiv:2110.04181); soft labels are ours and reduce to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from distill_core.builtin.by_class import (
    RealClasses,
    class_shares,
    draw_classes,
    draw_siamese,
    finish_gradients,
    matched_classes,
    matching_recipe,
    outer_sgd,
)
from distill_core.builtin.dm_options import DmOptions
from distill_core.plugin import (
    Algorithm,
    Augmentation,
    Backbone,
    Draw,
    Recipe,
    Streams,
    SyntheticDataset,
    Task,
    mixes_images,
)


class DistributionMatching(Algorithm):
    """Compares class means of features under a fresh random network in every outer step.

    Labels get no hypergradient: moving label mass to other classes lowers the loss without any
    use for training.
    """

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
        options, num_classes = self.options, synthetic.spec.num_classes
        backbone = self.task.new_backbone(rng["backbone"]).requires_grad_(False)
        classes = draw_classes(num_classes, options.class_batch, generator=rng["classes"])
        batch = synthetic.at(synthetic.draw(len(synthetic), generator=rng["draw"]))
        shares = class_shares(batch.labels.detach(), options.threshold)
        matched = matched_classes(shares, classes)
        draws = draw_siamese(
            self._augmentation,
            synthetic.spec.image_shape[1:],
            len(matched),
            per_class=options.mode == "per_class_aug",
            rng=rng,
        )
        real = self._real_means(backbone, matched, draws, rng)
        found = self._means(backbone, batch.images, shares[:, matched], draws)
        loss = ((found - real) ** 2).sum() * (num_classes / len(classes))
        torch.autograd.backward(loss)
        return {
            "loss": float(loss.detach()),
            **finish_gradients(synthetic, normalize=options.coverage_normalize),
            "unmatched_classes": len(classes) - len(matched),
        }

    def recipe(self) -> Recipe:
        """Return the training of the published evaluation."""
        return matching_recipe(self.options.augment)

    def notes(self) -> Mapping[str, str]:
        """Say what becomes of labels."""
        return {"labels": "stay as they are; published runs start from real images"}

    def _means(
        self, backbone: Backbone, images: Tensor, shares: Tensor, draws: Sequence[Draw]
    ) -> Tensor:
        """(k, d) weighted mean features of k classes, from one forward pass for all.

        Args:
            backbone: frozen.
            images: (n, C, h, w), carries the gradient.
            shares: (n, k) weights of the images, without gradient.
            draws: the augmentation of each class. Where classes differ in it, an image is passed
                once for every class that it has a share of.
        """
        if all(draw is draws[0] for draw in draws) or not draws[0].operation:
            augmented = Augmentation.apply(images, draws[0].shared(len(images)))
            return shares.T @ backbone.embed(augmented)
        item, column = shares.nonzero(as_tuple=True)
        by_class = column.argsort(stable=True)
        item, column = item[by_class], column[by_class]
        counts = torch.bincount(column, minlength=len(draws)).tolist()
        parts = [
            Augmentation.apply(images[members], draw.shared(len(members)))
            for members, draw in zip(torch.split(item, counts), draws, strict=True)
        ]
        features = backbone.embed(torch.cat(parts))
        weighted = shares[item, column, None] * features
        return features.new_zeros(len(draws), features.shape[1]).index_add(0, column, weighted)

    @torch.no_grad()
    def _real_means(
        self, backbone: Backbone, classes: Sequence[int], draws: Sequence[Draw], rng: Streams
    ) -> Tensor:
        """(k, d) mean features of a real batch of each class, some images at a time.

        A network that normalises over batches sees the images of all classes at once.
        """
        size, generator = self.options.real_batch, rng["real"]
        index = [self._real.draw(label, size, generator=generator) for label in classes]
        train = self.task.real.train
        parts = [
            (members, draw.shared(len(members))) for members, draw in zip(index, draws, strict=True)
        ]
        if mixes_images(backbone):
            images = [Augmentation.apply(train.take(members), draw) for members, draw in parts]
            features = backbone.embed(torch.cat(images))
            by_class = torch.split(features, [len(each) for each in index])
            return torch.stack([each.mean(0) for each in by_class])
        return torch.stack([self._real_mean(backbone, *part) for part in parts])

    def _real_mean(self, backbone: Backbone, index: Tensor, draw: Draw) -> Tensor:
        """(d,) mean features of the real images `index`."""
        chunk, total = self.task.engine.real_chunk, None
        for start in range(0, len(index), chunk):
            part = slice(start, start + chunk)
            images = Augmentation.apply(self.task.real.train.take(index[part]), draw[part])
            features = backbone.embed(images).sum(0)
            total = features if total is None else total + features
        assert total is not None
        return total / len(index)

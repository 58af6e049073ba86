"""DM: against plain loops over classes, brute force with soft labels, and central differences."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.builtin.algorithms.matching.distributions import DistributionMatching
from distill_core.builtin.algorithms.matching.options import DmOptions
from distill_core.builtin.backbones.convnet import ConvNetOptions
from distill_core.contracts.data import RealData
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.data.augment import Augmentation
from distill_core.engine.engine import Engine
from distill_core.system.memory import PeakBytes
from distill_core.testing import check_algorithm
from registry import InputError, check_options
from tests.distill_core.builtin.matching_sets import (
    SMOOTH,
    gradients,
    images_set,
    poster_set,
    real_data,
    slopes,
    task,
)
from tests.distill_core.largest import Results
from tests.distill_core.small_run import small_assembly


def dm(
    real: RealData,
    backbone: ConvNetOptions = SMOOTH,
    engine: Engine | None = None,
    **settings: Any,
) -> DistributionMatching:
    options = check_options(DmOptions, {"coverage_normalize": False, **settings}, where="algo")
    return DistributionMatching(options, task=task(real, backbone, engine))


def plain_loss(algorithm: DistributionMatching, synthetic: SyntheticDataset) -> Tensor:
    """The loss of one outer step with the draws of seed 0, image by image and class by class."""
    options, real, rng = algorithm.options, algorithm.task.real, Streams(0)
    backbone = algorithm.task.new_backbone(rng["backbone"])
    augmentation = Augmentation.named(options.augment, real.spec.augmentations)
    images, labels = synthetic.all()
    per_class = options.mode == "per_class_aug"
    draws = [
        augmentation.draw(1, (8, 8), generator=rng["augment"]) for _ in range(6 if per_class else 1)
    ]
    total = images.new_zeros(())
    for label in range(6):
        draw = draws[label if per_class else 0]
        members = (real.train.labels == label).nonzero().flatten()
        if options.real_batch < len(members):
            order = torch.randperm(len(members), generator=rng["real"])
            members = members[order[: options.real_batch]]
        wanted = [
            backbone.embed(Augmentation.apply(real.train.images[k : k + 1], draw)) for k in members
        ]
        mean, mass = 0.0, 0.0
        for image, share in zip(images, labels[:, label].tolist(), strict=True):
            if share > options.threshold:
                mean = mean + share * backbone.embed(Augmentation.apply(image[None], draw))
                mass += share
        total = total + ((mean / mass - sum(wanted) / len(wanted)) ** 2).sum()
    return total


SETS = {
    "one-hot": images_set,
    "fixed": poster_set,
    "soft": partial(poster_set, mode="soft"),
}


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("mode", ["per_class_aug", "shared_aug"])
@pytest.mark.parametrize("augment", ["none", "dsa"])
def test_loss_and_gradient_are_those_of_plain_loops(kind: str, mode: str, augment: str) -> None:
    real = real_data()
    synthetic = SETS[kind](real)
    settings = {"mode": mode, "augment": augment, "real_batch": 7}
    algorithm = dm(real, engine=Engine(real_chunk=3), **settings)
    metrics = algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    expected = plain_loss(algorithm, synthetic)
    assert metrics["loss"] == pytest.approx(float(expected.detach()), rel=1e-12)
    (wanted,) = torch.autograd.grad(expected, synthetic.groups()["data"])
    (found,) = gradients(synthetic)
    assert float(wanted.norm()) > 1e-6
    assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-14)


def test_one_hot_labels_are_the_published_loop_over_class_slices() -> None:
    """Hard labels, mean over the slice, a fixed network: written as in the published code."""
    real = real_data()
    synthetic = images_set(real, ipc=3)
    algorithm = dm(real, augment="none")
    metrics = algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    backbone = algorithm.task.new_backbone(Streams(0)["backbone"])
    (pixels,) = synthetic.groups()["data"]
    by_class = pixels.view(6, 3, 3, 8, 8)
    classes = synthetic.all().labels.argmax(1).view(6, 3)[:, 0].tolist()
    loss = pixels.new_zeros(())
    for place, label in enumerate(classes):
        real_features = backbone.embed(real.train.images[real.train.labels == label]).detach()
        features = backbone.embed(by_class[place])
        loss = loss + ((real_features.mean(0) - features.mean(0)) ** 2).sum()
    assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-10)
    (wanted,) = torch.autograd.grad(loss, pixels)
    assert torch.allclose(gradients(synthetic)[0], wanted, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("kind", SETS)
def test_the_gradient_agrees_with_central_differences(kind: str) -> None:
    real = real_data()
    synthetic = SETS[kind](real)
    algorithm = dm(real)
    algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    found = gradients(synthetic)
    slope, measured = slopes(
        synthetic.groups()["data"],
        found,
        lambda: algorithm.outer_step(synthetic, step=0, rng=Streams(0))["loss"],
    )
    assert abs(slope - measured) < 1e-6 * float(found[0].norm())


def test_real_and_synthetic_images_share_one_augmentation() -> None:
    """Synthetic images that equal the real ones match them under every augmentation."""
    real = real_data()
    synthetic = images_set(real, ipc=3)
    labels = synthetic.all().labels.argmax(1)
    chosen = torch.cat([(real.train.labels == k).nonzero().flatten()[:3] for k in labels[::3]])
    with torch.no_grad():
        synthetic.groups()["data"][0].copy_(real.train.images[chosen])
    only = real.train.__class__(real.train.images[chosen], real.train.labels[chosen])
    algorithm = dm(real.__class__(**{**vars(real), "train": only}))
    rng = Streams(0)
    for step in range(8):
        assert algorithm.outer_step(synthetic, step=step, rng=rng)["loss"] < 1e-20


def test_a_drawn_batch_of_classes_gives_the_loss_of_all_on_average() -> None:
    real = real_data()
    synthetic = images_set(real)
    settings = {"augment": "none", "real_batch": 12}

    def loss(seed: int, **more: Any) -> float:
        algorithm, rng = dm(real, **settings, **more), Streams(seed)
        rng["backbone"].manual_seed(0)
        return float(algorithm.outer_step(synthetic, step=0, rng=rng)["loss"])

    drawn = [loss(seed, class_batch=2) for seed in range(60)]
    assert len(set(drawn)) > 5
    assert sum(drawn) / len(drawn) == pytest.approx(loss(0), rel=0.1)
    assert loss(0, class_batch=6) == loss(0)


def test_labels_get_no_hypergradient() -> None:
    real = real_data()
    synthetic = poster_set(real, "soft")
    algorithm = dm(real)
    algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    assert all(p.grad is None for p in synthetic.groups()["labels"])
    optimizer = algorithm.outer_optimizer(synthetic.groups())
    assert isinstance(optimizer, torch.optim.SGD)
    (group,) = optimizer.param_groups
    assert (group["name"], group["lr"], group["momentum"]) == ("data", 1.0, 0.5)
    with pytest.raises(InputError, match="there is nothing to learn"):
        algorithm.outer_optimizer({"labels": synthetic.groups()["labels"]})


def test_pixels_at_the_border_get_as_much_as_those_inside() -> None:
    real = real_data()
    plain, normal = poster_set(real), poster_set(real)
    dm(real).outer_step(plain, step=0, rng=Streams(0))
    dm(real, coverage_normalize=True).outer_step(normal, step=0, rng=Streams(0))
    (coverage,) = plain.coverage()
    wanted = gradients(plain)[0] / (coverage / coverage.mean())
    assert torch.allclose(gradients(normal)[0], wanted, rtol=1e-12)


def test_classes_without_an_item_are_counted_and_refused_where_there_are_no_others() -> None:
    real = real_data()
    synthetic = poster_set(real, "soft")
    highest = synthetic.all().labels.detach().max(0).values.sort().values
    between = float(highest[1] + highest[2]) / 2
    metrics = dm(real, threshold=between).outer_step(synthetic, step=0, rng=Streams(0))
    assert metrics["unmatched_classes"] == 2
    with pytest.raises(InputError, match="no training image has a share") as caught:
        dm(real, threshold=0.999).outer_step(synthetic, step=0, rng=Streams(0))
    assert "algo.threshold" in caught.value.next


def test_a_step_without_any_item_is_drawn_again() -> None:
    """Of six classes three have an item; one is drawn in each step."""
    real = real_data()
    synthetic = poster_set(real, "soft")
    highest = synthetic.all().labels.detach().max(0).values.sort().values
    between = float(highest[2] + highest[3]) / 2
    algorithm, rng = dm(real, threshold=between, class_batch=1), Streams(0)
    for step in range(12):
        metrics = algorithm.outer_step(synthetic, step=step, rng=rng)
        assert metrics["unmatched_classes"] == 0
        assert metrics["loss"] > 0


def test_batch_normalisation_sees_all_classes_at_once() -> None:
    real = real_data()
    synthetic = images_set(real)
    network = ConvNetOptions(width=4, activation="softplus", norm="batch")
    losses = {
        dm(real, network, Engine(real_chunk=chunk)).outer_step(synthetic, step=0, rng=Streams(0))[
            "loss"
        ]
        for chunk in (2, 100)
    }
    assert len(losses) == 1


@pytest.mark.parametrize(
    "settings", [{"mode": "shared_aug"}, {"class_batch": 2, "augment": "none"}]
)
def test_it_keeps_the_contract_with_other_options(settings: dict[str, Any]) -> None:
    options = check_options(DmOptions, settings, where="algo")
    check_algorithm(partial(DistributionMatching, options), name="dm")


def test_the_recipe_is_the_published_evaluation() -> None:
    recipe = dm(real_data()).recipe()
    assert (recipe.optimizer, recipe.lr, recipe.momentum) == ("sgd", 0.01, 0.9)
    assert (recipe.schedule, recipe.steps, recipe.augment) == ("step", 1000, "dsa")
    assert dm(real_data(), augment="none").recipe().steps == 300


def test_the_estimate_is_what_a_step_takes_and_leaves_no_trace() -> None:
    real = real_data()
    synthetic, rng = poster_set(real), Streams(0)
    algorithm = dm(real, augment="none", engine=Engine(real_chunk=4))
    estimate = algorithm.estimate(synthetic, rng=rng)
    assert rng.state_dict() == {}
    assert all(p.grad is None for p in synthetic.parameters())
    assert set(estimate.phases) == {"real images", "synthetic images"}
    with PeakBytes() as memory:
        algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    assert estimate.memory == pytest.approx(memory.peak, rel=0.05)


def test_learned_labels_are_refused_before_any_work() -> None:
    assert not dm(real_data()).learns_labels
    with pytest.raises(InputError) as caught:
        small_assembly(algo="dm", options={"labeler": {"mode": "learned"}})
    assert str(caught.value) == (
        "algorithm 'dm' does not learn labels, and labeler 'poddl' has labels to learn.\n"
        "Expected fixed labels, or an algorithm that learns them.\n"
        "Next: pass -o labeler.mode=fixed or --labeler onehot."
    )
    small_assembly(algo="dm")


def test_it_learns() -> None:
    real = real_data()
    synthetic = images_set(real)
    algorithm = dm(real, ConvNetOptions(width=8), augment="none", real_batch=12)
    optimizer, rng = algorithm.outer_optimizer(synthetic.groups()), Streams(0)
    losses = []
    for step in range(30):
        optimizer.zero_grad()
        losses.append(algorithm.outer_step(synthetic, step=step, rng=rng)["loss"])
        optimizer.step()
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_with_few_of_many_classes_only_one_gradient_has_the_size_of_all_items() -> None:
    real = real_data()
    synthetic = images_set(real, ipc=50)
    algorithm = dm(real, class_batch=3)
    made = algorithm._prepare(synthetic, Streams(0))
    images = made.images.detach().requires_grad_()
    loss = algorithm._means(made._replace(images=images)).sum()
    with Results() as results:
        torch.autograd.grad(loss, images)
    assert sum(size >= images.numel() for size in results.sizes) <= 2  # zeros, and the sum in them

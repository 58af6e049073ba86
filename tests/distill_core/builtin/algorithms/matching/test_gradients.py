"""DC and DSA: against plain loops over classes, graphs of graphs, and central differences."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from distill_core.builtin.algorithms.matching.gradients import GradientMatching
from distill_core.builtin.algorithms.matching.options import DcOptions, DsaOptions
from distill_core.builtin.backbones.convnet import ConvNetOptions
from distill_core.contracts.data import RealData
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.data.augment import Augmentation
from distill_core.engine.engine import Engine
from distill_core.engine.kernels.native import Unavailable, library
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
from tests.distill_core.small_run import small_assembly


def dc(
    real: RealData,
    backbone: ConvNetOptions = SMOOTH,
    engine: Engine | None = None,
    **settings: Any,
) -> GradientMatching:
    options = check_options(DcOptions, {"coverage_normalize": False, **settings}, where="algo")
    return GradientMatching(options, task=task(real, backbone, engine))


def plain_distance(found: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """The published distance, output by output."""
    total = found[0].new_zeros(())
    for one, other in zip(found, wanted, strict=True):
        if one.dim() > 1:
            for a, b in zip(one, other, strict=True):
                total = total + 1 - (a * b).sum() / (a.norm() * b.norm() + 1e-6)
    return total


def plain_loss(algorithm: GradientMatching, synthetic: SyntheticDataset) -> Tensor:
    """The loss of the first outer step with the draws of seed 0, by graphs of graphs.

    Every item's cross-entropy is taken by itself, at every class that its label has.
    """
    options, real, rng = algorithm.options, algorithm.task.real, Streams(0)
    backbone = algorithm.task.new_backbone(rng["backbone"])
    parameters = list(backbone.parameters())
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
        augmented = Augmentation.apply(real.train.images[members], draw.shared(len(members)))
        targets = torch.full((len(members),), label)
        wanted = torch.autograd.grad(cross_entropy(backbone(augmented), targets), parameters)
        loss, mass = images.new_zeros(()), images.new_zeros(())
        for image, share in zip(images, labels[:, label], strict=True):
            if share > options.threshold:
                logits = backbone(Augmentation.apply(image[None], draw))
                loss = loss + share * cross_entropy(logits, targets[:1])
                mass = mass + share
        found = torch.autograd.grad(loss / mass, parameters, create_graph=True)
        total = total + plain_distance(list(found), list(wanted))
    return total


SETS = {
    "one-hot": images_set,
    "fixed": poster_set,
    "soft": partial(poster_set, mode="soft"),
}


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("mode", ["per_class_aug", "shared_aug"])
@pytest.mark.parametrize("augment", ["none", "dsa"])
def test_loss_and_gradients_are_those_of_plain_loops(kind: str, mode: str, augment: str) -> None:
    real = real_data()
    synthetic = SETS[kind](real)
    learn = kind == "soft"
    algorithm = dc(
        real,
        engine=Engine(real_chunk=3, microbatch=2),
        mode=mode,
        augment=augment,
        real_batch=7,
        learn_labels=learn,
    )
    metrics = algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    expected = plain_loss(algorithm, synthetic)
    assert metrics["loss"] == pytest.approx(float(expected.detach()), rel=1e-9)
    for group in ("data", "labels") if learn else ("data",):
        (wanted,) = torch.autograd.grad(expected, synthetic.groups()[group], retain_graph=True)
        (found,) = gradients(synthetic, group)
        assert float(wanted.norm()) > 1e-6
        assert float((found - wanted).norm() / wanted.norm()) < 1e-9


def published_loss(
    backbone: Backbone, real: RealData, pixels: Tensor, classes: list[int], ipc: int
) -> Tensor:
    """As in the published code: hard labels, slices of the image tensor, mean cross-entropy."""
    parameters = list(backbone.parameters())
    loss = pixels.new_zeros(())
    for place, label in enumerate(classes):
        batch = real.train.images[real.train.labels == label]
        logits = backbone(batch)
        loss_real = cross_entropy(logits, torch.full((len(batch),), label))
        wanted = [g.detach() for g in torch.autograd.grad(loss_real, parameters)]
        logits = backbone(pixels[place * ipc : (place + 1) * ipc])
        loss_syn = cross_entropy(logits, torch.full((ipc,), label))
        found = torch.autograd.grad(loss_syn, parameters, create_graph=True)
        loss = loss + plain_distance(list(found), wanted)
    return loss


def test_one_hot_labels_are_the_published_loops_with_a_network_that_ages() -> None:
    """Three passes, two epochs in between, and a new network in the fourth outer step."""
    real = real_data()
    synthetic = images_set(real, ipc=2)
    algorithm = dc(real, outer_loop=3, inner_loop=2, net_lr=0.1)
    classes = synthetic.all().labels.argmax(1).view(6, 2)[:, 0].tolist()
    (pixels,) = synthetic.groups()["data"]
    plain = pixels.detach().clone().requires_grad_()
    optimizers = [
        algorithm.outer_optimizer(synthetic.groups()),
        torch.optim.SGD([plain], lr=0.1, momentum=0.5),
    ]
    rng, same = Streams(0), Streams(0)
    backbone: Backbone | None = None
    for step in range(4):
        for optimizer in optimizers:
            optimizer.zero_grad()
        metrics = algorithm.outer_step(synthetic, step=step, rng=rng)
        if step % 3 == 0:
            backbone = algorithm.task.new_backbone(same["backbone"])
        assert backbone is not None
        loss = published_loss(backbone, real, plain, classes, 2)
        assert metrics["loss"] == pytest.approx(float(loss.detach()), rel=1e-9)
        assert metrics["pass"] == step % 3 + 1
        (plain.grad,) = torch.autograd.grad(loss, plain)
        assert pixels.grad is not None
        assert torch.allclose(pixels.grad, plain.grad, rtol=1e-7, atol=1e-10)
        for optimizer in optimizers:
            optimizer.step()
        net_optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
        for _ in range(2):  # one batch holds all twelve images
            net_optimizer.zero_grad()
            targets = torch.tensor(classes).repeat_interleave(2)
            cross_entropy(backbone(plain.detach()), targets).backward()
            net_optimizer.step()


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("distance", ["layers", "mse", "cosine"])
def test_gradients_agree_with_central_differences(kind: str, distance: str) -> None:
    real = real_data()
    synthetic = SETS[kind](real)
    groups = synthetic.groups()

    def step() -> tuple[GradientMatching, float]:
        algorithm = dc(real, learn_labels="labels" in groups, distance=distance, augment="dsa")
        for parameter in synthetic.parameters():
            parameter.grad = None
        return algorithm, algorithm.outer_step(synthetic, step=0, rng=Streams(0))["loss"]

    step()
    found = {name: gradients(synthetic, name) for name in groups}
    for name, parameters in groups.items():
        slope, measured = slopes(parameters, found[name], lambda: step()[1])
        assert abs(slope - measured) < 1e-5 * float(found[name][0].norm())


def test_the_kernels_give_the_same_gradients() -> None:
    try:
        library()
    except Unavailable as reason:
        pytest.skip(str(reason))
    real, network = real_data(), ConvNetOptions(width=8)
    found = []
    for engine in (Engine(), Engine(kernels=True, microbatch=2)):
        synthetic = poster_set(real, "soft")
        algorithm = dc(real, network, engine, augment="dsa", learn_labels=True)
        metrics = algorithm.outer_step(synthetic, step=0, rng=Streams(0))
        found.append((metrics["loss"], gradients(synthetic), gradients(synthetic, "labels")))
    (loss, pixels, labels), (same_loss, same_pixels, same_labels) = found
    assert loss == pytest.approx(same_loss, rel=1e-10)
    assert torch.allclose(pixels[0], same_pixels[0], rtol=1e-8, atol=1e-11)
    assert torch.allclose(labels[0], same_labels[0], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_resumed_run_goes_on_bit_for_bit(steps: int) -> None:
    real = real_data()
    settings = {"outer_loop": 3, "inner_loop": 2, "augment": "dsa", "net_batch": 5}
    straight, synthetic, rng = dc(real, **settings), poster_set(real), Streams(0)

    def step(algorithm: GradientMatching, data: SyntheticDataset, streams: Streams) -> Any:
        for parameter in data.parameters():
            parameter.grad = None
        metrics = algorithm.outer_step(data, step=0, rng=streams)
        for parameter in data.groups()["data"]:
            assert parameter.grad is not None
            parameter.data.sub_(0.1 * parameter.grad)
        return metrics

    for _ in range(steps):
        step(straight, synthetic, rng)
    resumed, again, streams = dc(real, **settings), poster_set(real), Streams(0)
    again.load_state_dict(synthetic.state_dict())
    streams.load_state_dict(rng.state_dict())
    state = straight.state_dict()
    assert set(state) == (set() if steps == 3 else {"born", "theta", "passes"})
    resumed.load_state_dict(state)
    for _ in range(3):
        assert step(straight, synthetic, rng) == step(resumed, again, streams)
        assert torch.equal(gradients(synthetic)[0], gradients(again)[0])


def test_labels_get_a_hypergradient_only_where_that_is_asked_for() -> None:
    real = real_data()
    synthetic = poster_set(real, "soft")
    plain = dc(real)
    plain.outer_step(synthetic, step=0, rng=Streams(0))
    assert all(p.grad is None for p in synthetic.groups()["labels"])
    (group,) = plain.outer_optimizer(synthetic.groups()).param_groups
    assert (group["name"], group["lr"], group["momentum"]) == ("data", 0.1, 0.5)
    optimizer = dc(real, learn_labels=True, label_lr=0.2).outer_optimizer(synthetic.groups())
    assert [(g["name"], g["lr"]) for g in optimizer.param_groups] == [
        ("data", 0.1),
        ("labels", 0.2),
    ]
    with pytest.raises(InputError, match="there is nothing to learn"):
        plain.outer_optimizer({"labels": synthetic.groups()["labels"]})


def test_pixels_are_divided_by_their_coverage() -> None:
    real = real_data()
    plain, normal = poster_set(real), poster_set(real)
    dc(real).outer_step(plain, step=0, rng=Streams(0))
    dc(real, coverage_normalize=True).outer_step(normal, step=0, rng=Streams(0))
    (coverage,) = plain.coverage()
    wanted = gradients(plain)[0] / (coverage / coverage.mean())
    assert torch.allclose(gradients(normal)[0], wanted, rtol=1e-12)


def test_a_drawn_batch_of_classes_gives_the_loss_of_all_on_average() -> None:
    real = real_data()
    synthetic = images_set(real, ipc=1)

    def loss(seed: int, **more: Any) -> float:
        algorithm, rng = dc(real, **more), Streams(seed)
        rng["backbone"].manual_seed(0)
        return float(algorithm.outer_step(synthetic, step=0, rng=rng)["loss"])

    drawn = [loss(seed, class_batch=3) for seed in range(30)]
    assert len(set(drawn)) > 5
    assert sum(drawn) / len(drawn) == pytest.approx(loss(0), rel=0.1)


def test_batch_normalisation_is_refused_before_any_work() -> None:
    network = ConvNetOptions(width=4, norm="batch")
    with pytest.raises(InputError, match="batch normalisation") as caught:
        dc(real_data(), network)
    assert "--algo dm" in caught.value.next


def test_labels_below_the_threshold_are_refused() -> None:
    real = real_data()
    with pytest.raises(InputError, match="no training image has a share"):
        dc(real, threshold=0.999).outer_step(poster_set(real, "soft"), step=0, rng=Streams(0))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dc", {"outer_loop": 3, "inner_loop": 2}),
        ("dc", {"learn_labels": True, "class_batch": 3, "distance": "mse"}),
        ("dsa", {"outer_loop": 2, "inner_loop": 1, "net_batch": 4}),
        ("dsa", {"mode": "shared_aug"}),
    ],
)
def test_it_keeps_the_contract(name: str, settings: dict[str, Any]) -> None:
    model = {"dc": DcOptions, "dsa": DsaOptions}[name]
    options = check_options(model, settings, where="algo")
    check_algorithm(partial(GradientMatching, options), name=name)


def test_the_recipe_is_the_published_evaluation() -> None:
    assert dc(real_data()).recipe().model_dump() == {
        "optimizer": "sgd",
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "step",
        "batch_size": 256,
        "steps": 300,
        "augment": "none",
    }
    recipe = dc(real_data(), augment="dsa").recipe()
    assert (recipe.steps, recipe.augment) == (1000, "dsa")


def test_the_estimate_is_what_a_step_takes_and_leaves_no_trace() -> None:
    real = real_data()
    synthetic, rng = poster_set(real), Streams(0)
    algorithm = dc(real, outer_loop=4, inner_loop=8)
    algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    before = algorithm.state_dict()
    for parameter in synthetic.parameters():
        parameter.grad = None
    estimate = algorithm.estimate(synthetic, rng=rng)
    assert rng.state_dict() == {}
    assert all(p.grad is None for p in synthetic.parameters())
    assert algorithm.state_dict() == before
    assert "6 classes and 6 epochs on average" in estimate.measured
    with PeakBytes() as memory:
        dc(real).outer_step(synthetic, step=0, rng=Streams(0))
    assert estimate.memory == pytest.approx(memory.peak, rel=0.1)


@pytest.mark.parametrize("algo", ["dc", "dsa"])
def test_learned_labels_are_refused_before_any_work_unless_asked_for(algo: str) -> None:
    with pytest.raises(InputError) as caught:
        small_assembly(algo=algo, labeler="soft")
    assert caught.value.what == (
        f"algorithm '{algo}' does not learn labels, and labeler 'soft' has labels to learn."
    )
    assert caught.value.next == "pass --labeler onehot or -o algo.learn_labels=true."
    small_assembly(algo=algo, labeler="soft", options={"algo": {"learn_labels": True}})


def test_it_learns() -> None:
    real = real_data()
    synthetic = images_set(real, ipc=1)
    algorithm = dc(real, ConvNetOptions(width=8))
    optimizer, rng = algorithm.outer_optimizer(synthetic.groups()), Streams(0)
    losses = []
    for step in range(40):
        optimizer.zero_grad()
        losses.append(algorithm.outer_step(synthetic, step=step, rng=rng)["loss"])
        optimizer.step()
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])

"""RaT-BPTT: its gradient against training by PyTorch's own optimizers, and its state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from distill_core.builtin.algorithms.unrolled.lengths import Resolved
from distill_core.builtin.algorithms.unrolled.options import RatBpttOptions
from distill_core.builtin.algorithms.unrolled.ratbptt import RatBptt
from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.builtin.labelers.onehot import Onehot
from distill_core.builtin.labelers.soft import Soft
from distill_core.builtin.representations.images import Images, ImagesOptions
from distill_core.contracts.algorithm import Task
from distill_core.contracts.components import Representation
from distill_core.contracts.data import DataSpec, RealData, Split
from distill_core.contracts.geometry import Placement
from distill_core.contracts.streams import Streams, seeded
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.data.augment import Augmentation
from distill_core.engine.clipping import gradient_norm
from distill_core.engine.engine import Engine
from distill_core.engine.fresh_networks import new_backbone
from distill_core.engine.inner_batches import InnerBatches
from distill_core.engine.losses import soft_cross_entropy
from distill_core.system.memory import PeakBytes
from distill_core.testing import check_algorithm
from distill_core.testing.small import small_data
from podd_plugin.poddl import Poddl, PoddlOptions
from podd_plugin.poster import Poster, PosterOptions
from registry import InputError, OptionError, Options, check_options

SMOOTH = ConvNetOptions(width=4, activation="softplus")


def real_data() -> RealData:
    """Six classes of 3x8x8 in float64."""
    real = small_data()
    return replace(real, train=Split(real.train.images.double(), real.train.labels))


def join(
    real: RealData, representation: Representation, labeler: Callable[[Placement], nn.Module]
) -> SyntheticDataset:
    layout = representation.layout
    order = torch.arange(real.spec.num_classes).flip(0).reshape(layout.grid_shape)
    placement = Placement(layout, order)
    representation.reset(placement, real, generator=seeded(0, "init"))
    made: Any = labeler(placement)
    return SyntheticDataset(representation, made, placement=placement, spec=real.spec).double()


def images_set(real: RealData) -> SyntheticDataset:
    images = Images(ImagesOptions(init_scale=5), spec=real.spec, ipc=2)
    return join(real, images, lambda placement: Soft(Options(), placement=placement))


def poster_set(real: RealData) -> SyntheticDataset:
    settings = {"patches": "3x4", "init": "paper"}
    poster = Poster(check_options(PosterOptions, settings, where="repr"), spec=real.spec, ipc=1)
    return join(real, poster, lambda placement: Poddl(PoddlOptions(), placement=placement))


SETS = {"images": images_set, "poster": poster_set}


def ratbptt(
    real: RealData,
    backbone: ConvNetOptions = SMOOTH,
    engine: Engine | None = None,
    **settings: Any,
) -> RatBptt:
    def make() -> ConvNet:
        return ConvNet(backbone, spec=real.spec).double()

    def fresh(generator: torch.Generator) -> ConvNet:
        made = new_backbone(make, generator, torch.device("cpu"))
        assert isinstance(made, ConvNet)
        return made

    options = check_options(RatBpttOptions, {"inner_lr": 0.01, **settings}, where="algo")
    return RatBptt(options, task=Task(real, fresh, engine or Engine()))


def plain_loss(
    algorithm: RatBptt, synthetic: SyntheticDataset, frozen: SyntheticDataset
) -> Callable[[], float]:
    """The outer loss of one outer step, with PyTorch's modules and optimizers alone.

    The warm-up trains on `frozen`, the window on `synthetic`; all draws are those of seed 0.
    """
    options, real, rng = algorithm.options, algorithm.task.real, Streams(0)
    offset, window = algorithm._curriculum.next(0, rng["curriculum"])
    start = algorithm.task.new_backbone(rng["backbone"])
    augmentation = Augmentation.named(options.augment, real.spec.augmentations)
    drawn = InnerBatches.draw(
        synthetic, size=options.batch, steps=offset + window, augmentation=augmentation, rng=rng
    )
    images, labels = real.train.batch(options.real_batch, generator=rng["real"])
    draw = augmentation.draw(len(labels), (8, 8), generator=rng["augment"])
    images = augmentation.apply(images, draw)

    def loss() -> float:
        backbone = copy.deepcopy(start)
        optimizer: torch.optim.Optimizer = torch.optim.Adam(backbone.parameters(), options.inner_lr)
        if options.inner_optimizer == "sgd":
            optimizer = torch.optim.SGD(
                backbone.parameters(),
                options.inner_lr,
                momentum=options.momentum,
                weight_decay=options.weight_decay,
            )
        for step in range(offset + window):
            source = frozen if step < offset else synthetic
            with torch.no_grad():
                batch = source.at(drawn._boxes[step])
                inputs = augmentation.apply(batch.images, drawn._draws[step])
            optimizer.zero_grad()
            soft_cross_entropy(backbone(inputs), batch.labels).backward()
            if options.epsilon == "before":
                optimizer.param_groups[0]["eps"] = 1e-8 / (1 - 0.999 ** (step + 1)) ** 0.5
            optimizer.step()
        with torch.no_grad():
            return float(cross_entropy(backbone(images), labels))

    return loss


def slopes(
    synthetic: SyntheticDataset, group: str, loss: Callable[[], float], *, seed: int, size: float
) -> tuple[float, float]:
    """Slope along a random direction of one group, by `.grad` and by central differences."""
    parameters = synthetic.groups()[group]
    generator = seeded(seed, "direction")
    along = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    slope = sum(
        float((p.grad * d).sum())
        for p, d in zip(parameters, along, strict=True)
        if p.grad is not None
    )
    values = []
    for move in (size, -2 * size):
        for parameter, direction in zip(parameters, along, strict=True):
            parameter.data.add_(move * direction)
        values.append(loss())
    for parameter, direction in zip(parameters, along, strict=True):
        parameter.data.add_(size * direction)
    return slope, (values[0] - values[1]) / (2 * size)


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize(
    "settings",
    [
        {"inner_optimizer": "adam", "curriculum": "fixed"},
        {"epsilon": "before", "curriculum": "fixed"},
        {"inner_optimizer": "sgd", "curriculum": "fixed", "weight_decay": 0.01, "inner_lr": 0.05},
        {"inner_optimizer": "adam", "curriculum": "none"},
    ],
    ids=["adam", "epsilon", "sgd", "adam from the start"],
)
def test_the_hypergradient_agrees_with_central_differences(
    kind: str, settings: dict[str, Any]
) -> None:
    real = real_data()
    synthetic = SETS[kind](real)
    frozen = copy.deepcopy(synthetic)
    algorithm = ratbptt(
        real,
        engine=Engine(real_chunk=11, microbatch=3),
        window=4,
        total=7,
        batch=7,
        real_batch=40,
        clip=False,
        **settings,
    )
    metrics = algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    loss = plain_loss(algorithm, synthetic, frozen)
    assert metrics["loss"] == pytest.approx(loss(), rel=1e-9)
    # Adam's first step is nearly the gradient's sign, so it bends sharply where that is small.
    size = 1e-7 if settings["curriculum"] == "none" else 1e-6
    for group, parameters in synthetic.groups().items():
        norm = gradient_norm(parameters)  # the typical slope along a random direction
        assert norm > 1e-3
        for seed in range(2):
            slope, measured = slopes(synthetic, group, loss, seed=seed, size=size)
            assert abs(slope - measured) < 1e-6 * norm


@pytest.mark.parametrize("kind", SETS)
def test_a_window_of_full_length_is_backpropagation_through_everything(kind: str) -> None:
    """Against a loop that keeps every graph, with PyTorch's functional call and no Adam of ours."""
    real = real_data()
    synthetic = SETS[kind](real)
    settings = {"inner_optimizer": "sgd", "inner_lr": 0.1, "augment": "none", "clip": False}
    algorithm = ratbptt(
        real, window=5, total=5, curriculum="none", batch=100, real_batch=1000, **settings
    )
    algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    backbone = algorithm.task.new_backbone(Streams(0)["backbone"])
    values = dict(backbone.named_parameters())
    velocity = {name: torch.zeros_like(value) for name, value in values.items()}
    everything = synthetic.all()
    for _ in range(5):
        logits = torch.func.functional_call(backbone, values, (everything.images,))
        loss = soft_cross_entropy(logits, everything.labels)
        grads = torch.autograd.grad(loss, list(values.values()), create_graph=True)
        for name, grad in zip(values, grads, strict=True):
            velocity[name] = 0.9 * velocity[name] + grad
        values = {name: value - 0.1 * velocity[name] for name, value in values.items()}
    logits = torch.func.functional_call(backbone, values, (real.train.images,))
    parameters = list(synthetic.parameters())
    expected = torch.autograd.grad(cross_entropy(logits, real.train.labels), parameters)
    for parameter, wanted in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, wanted, rtol=1e-9, atol=1e-12)


def gradients(synthetic: SyntheticDataset) -> list[Tensor]:
    return [p.grad.clone() for p in synthetic.parameters() if p.grad is not None]


def outer_step(
    settings: dict[str, Any], *, seed: int = 0, engine: Engine | None = None
) -> tuple[dict[str, float], list[Tensor]]:
    real = real_data()
    synthetic = poster_set(real)
    algorithm = ratbptt(
        real, engine=engine, **{"window": 2, "total": 3, "real_batch": 40, **settings}
    )
    metrics = algorithm.outer_step(synthetic, step=0, rng=Streams(seed))
    return dict(metrics), gradients(synthetic)


@pytest.mark.parametrize("chunk", [1, 7, 39])
def test_chunks_of_the_real_batch_change_nothing(chunk: int) -> None:
    whole, expected = outer_step({}, engine=Engine(real_chunk=40))
    parts, found = outer_step({}, engine=Engine(real_chunk=chunk))
    assert parts["accuracy"] == whole["accuracy"]
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-12)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-13)


def test_every_draw_comes_from_the_streams() -> None:
    torch.manual_seed(0)
    first, expected = outer_step({"batch": 5})
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again, found = outer_step({"batch": 5})
    other, _ = outer_step({"batch": 5}, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert first == again
    assert all(map(torch.equal, found, expected))
    assert first["loss"] != other["loss"]


def test_pixels_and_labels_are_clipped_each_by_their_own_average() -> None:
    real = real_data()
    synthetic = poster_set(real)
    algorithm = ratbptt(real, window=1, total=1, label_clip=True, clip_factor=0.5)
    metrics = algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    _, free = outer_step({"window": 1, "total": 1, "clip": False, "real_batch": 5000})
    assert metrics["clipped"] == metrics["label_clipped"] == 1.0
    assert metrics["grad_norm"] == pytest.approx(float(free[0].norm()))
    for found, whole in zip(gradients(synthetic), free, strict=True):
        assert torch.allclose(found, whole / 2)


def test_labels_are_not_clipped_with_the_pixels() -> None:
    _, clipped = outer_step({"clip_factor": 0.25})
    _, free = outer_step({"clip": False})
    assert torch.allclose(clipped[0], free[0] / 4)
    assert torch.equal(clipped[1], free[1])


def test_metrics_say_what_was_done() -> None:
    metrics, _ = outer_step({"curriculum": "fixed", "total": 5})
    assert set(metrics) == {
        "loss",
        "accuracy",
        "grad_norm",
        "clipped",
        "label_grad_norm",
        "offset",
        "window",
    }
    assert (metrics["offset"], metrics["window"]) == (3, 2)
    assert 0 <= metrics["accuracy"] <= 1


def test_it_learns() -> None:
    """After thirty outer steps, fresh networks end with a loss that is a third lower."""
    real = real_data()
    synthetic = images_set(real)
    algorithm = ratbptt(
        real,
        ConvNetOptions(width=8),
        window=10,
        total=10,
        curriculum="none",
        pixel_lr=0.1,
        augment="none",
    )
    optimizer, rng = algorithm.outer_optimizer(synthetic.groups()), Streams(0)
    losses = []
    for step in range(30):
        optimizer.zero_grad()
        losses.append(algorithm.outer_step(synthetic, step=step, rng=rng)["loss"])
        optimizer.step()
        synthetic.project()
    assert sum(losses[-3:]) < 2 / 3 * sum(losses[:3])


@pytest.mark.parametrize(
    "settings",
    [
        {"epoch_steps": 3},
        {"curriculum": "staged", "patience": 1, "inner_optimizer": "sgd"},
        {"curriculum": "window", "augment": "dsa", "label_clip": True, "batch": 3},
        {"batch": 3, "balanced": True},
        {"curriculum": "adaptive", "window": 2, "total": 4, "patience": 1},
    ],
)
def test_it_keeps_the_contract(settings: dict[str, Any]) -> None:
    options = check_options(RatBpttOptions, {"window": 1, "total": 3, **settings}, where="algo")
    check_algorithm(partial(RatBptt, options), name="ratbptt")


@pytest.mark.parametrize("inner", ["adam", "sgd"])
def test_the_dry_run_trains_as_pytorch_does(inner: str) -> None:
    real = real_data()
    synthetic, algorithm = images_set(real), ratbptt(real, inner_optimizer=inner, augment="none")
    found = algorithm._loop.gradient_norms(synthetic, 4, Streams(3))
    backbone, (images, labels) = (
        algorithm.task.new_backbone(Streams(3)["backbone"]),
        synthetic.all(),
    )
    make = torch.optim.Adam if inner == "adam" else partial(torch.optim.SGD, momentum=0.9)
    optimizer = make(backbone.parameters(), lr=0.01)
    for norm in found:
        optimizer.zero_grad()
        cross_entropy(backbone(images.detach()), labels.detach()).backward()
        gradients = torch.cat([each.grad.flatten() for each in backbone.parameters()])
        torch.testing.assert_close(norm, gradients.norm())
        optimizer.step()
    assert all(parameter.grad is None for parameter in synthetic.parameters())


def test_state_holds_the_averages_and_the_curriculum() -> None:
    real = real_data()
    algorithm = ratbptt(real, window=1, total=4, label_clip=True, epoch_steps=2)
    assert algorithm.state_dict() == {}
    algorithm.outer_step(poster_set(real), step=0, rng=Streams(0))
    state = algorithm.state_dict()
    assert set(state) == {"clip.data", "clip.labels", "curriculum.drawn"}
    other = ratbptt(real, window=1, total=4, label_clip=True, epoch_steps=2)
    other.load_state_dict(state)
    assert other.state_dict() == state


def test_the_outer_optimizer_has_a_rate_for_each_group() -> None:
    real = real_data()
    groups = images_set(real).groups()
    optimizer = ratbptt(real, pixel_lr=0.3).outer_optimizer(groups)
    assert isinstance(optimizer, torch.optim.Adam)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.3, 0.1])
    optimizer = ratbptt(real, pixel_lr=0.3, label_lr=0.2).outer_optimizer(groups)
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.2]
    with pytest.raises(InputError, match="there is nothing to learn"):
        ratbptt(real).outer_optimizer({})


def test_the_recipe_is_the_inner_loop_carried_on() -> None:
    algorithm = ratbptt(
        real_data(), inner_optimizer="sgd", inner_lr=0.02, weight_decay=5e-4, batch=48
    )
    assert algorithm.recipe().model_dump() == {
        "optimizer": "sgd",
        "lr": 0.02,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "constant",
        "batch_size": 48,
        "steps": 300,
        "augment": "flip_rotate",
    }


def test_the_estimate_grows_by_what_a_step_keeps_and_leaves_no_trace() -> None:
    real = real_data()
    synthetic = poster_set(real)
    rng = Streams(0)
    estimates = [
        ratbptt(real, window=window, total=40).estimate(synthetic, rng=rng) for window in (10, 20)
    ]
    assert rng.state_dict() == {}
    assert all(p.grad is None for p in synthetic.parameters())
    assert estimates[0].seconds > 0
    parameters = sum(p.nbytes for p in ConvNet(SMOOTH, spec=real.spec).double().parameters())
    assert estimates[1].memory - estimates[0].memory == 10 * 4 * parameters  # theta, g, m, v
    assert "15 + 10 steps on average and 66 real images" in estimates[0].measured


@pytest.mark.parametrize(
    ("settings", "backbone", "engine"),
    [
        ({"window": 12, "real_batch": 60}, SMOOTH, Engine(real_chunk=20)),
        ({"window": 3, "inner_optimizer": "sgd"}, ConvNetOptions(width=16), Engine(microbatch=4)),
        ({"window": 5, "batch": 4}, ConvNetOptions(width=8), Engine(kernels=True, real_chunk=15)),
        ({"window": 12, "real_batch": 60}, SMOOTH, Engine(activation_cache=2**30)),
        ({"window": 12, "real_batch": 60}, SMOOTH, Engine(activation_cache=2**20)),
        (
            {"window": 8, "batch": 6},
            ConvNetOptions(width=12),
            Engine(kernels=True, activation_cache=2**30),
        ),
    ],
    ids=["autograd", "microbatches", "kernels", "graphs", "some graphs", "kernels' activations"],
)
def test_the_memory_that_is_predicted_is_what_a_step_takes(
    settings: dict[str, Any], backbone: ConvNetOptions, engine: Engine
) -> None:
    """Counted in bytes of tensors alive together, so that machine and allocator do not matter."""
    real = real_data()
    synthetic = poster_set(real)
    algorithm = ratbptt(real, backbone, engine, total=20, curriculum="fixed", **settings)
    estimate = algorithm.estimate(synthetic, rng=Streams(0))
    with PeakBytes() as memory:
        algorithm.outer_step(synthetic, step=0, rng=Streams(0))
    assert estimate.memory == pytest.approx(memory.peak, rel=0.25)
    assert (estimate.retained > 0) == (engine.activation_cache > 0)
    assert estimate.retained <= engine.activation_cache


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"window": 300},
            "option algo.window = 300 is longer than algo.total = 200.\n"
            "Expected 1 <= window <= total.\n"
            "Next: pass -o algo.window=60 (the default), or raise -o algo.total.",
        ),
        (
            {"min_offset": 150},
            "option algo.min_offset = 150 leaves no room for the window.\n"
            "Expected 0 <= min_offset <= total - window = 140.\n"
            "Next: lower -o algo.min_offset, or raise -o algo.total.",
        ),
    ],
)
def test_settings_that_do_not_fit_each_other(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        check_options(RatBpttOptions, settings, where="algo").resolve_defaults(small=False)
    assert str(caught.value) == text
    free = check_options(RatBpttOptions, {"curriculum": "none", "window": 300}, where="algo")
    assert free.resolve_defaults(small=False).window == 300


@pytest.mark.parametrize(("curriculum", "steps"), [("none", 20), ("fixed", 50), ("window", 50)])
def test_an_inner_loop_draws_a_batch_in_each_step(curriculum: str, steps: int) -> None:
    """As many as are trained, offset and window: without a curriculum the window alone."""
    settings = {"curriculum": curriculum, "window": 20, "total": 50, "batch": 3}
    options = check_options(RatBpttOptions, settings, where="algo")
    assert options.item_draws(real_data().spec) == 3 * steps


def test_defaults_are_the_papers_but_for_small_images() -> None:
    options = RatBpttOptions(total=80)
    assert options.resolve_defaults(small=False) == Resolved(
        window=60, total=80, inner_lr=1e-3, real_batch=5000, pixel_lr=1e-3, label_lr=1e-3, spread=15
    )
    assert options.resolve_defaults(small=True) == Resolved(
        window=30, total=80, inner_lr=3e-3, real_batch=256, pixel_lr=0.03, label_lr=0.01, spread=7
    )
    notes = ratbptt(real_data()).notes()
    assert notes["inner loop"] == "window 30 of at most 50 steps, adam at 0.01"
    assert notes["outer step"].startswith(f"all {len(real_data().train)} real images, ")
    assert ratbptt(real_data(), real_batch=2).notes()["outer step"].startswith("2 real images, ")
    with pytest.raises(OptionError, match=r"algo\.window = 60 is longer than algo\.total = 50"):
        ratbptt(real_data(), window=60)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"curriculum": "adaptive", "window": 4, "total": 9, "spread": 4}, "does not fit a window"),
        ({"curriculum": "adaptive", "window": 8, "total": 9, "spread": 2}, "does not fit a window"),
    ],
)
def test_a_spread_that_does_not_fit_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError, match=sentence):
        check_options(RatBpttOptions, settings, where="algo")


def test_a_poster_without_overlap_and_fixed_labels_is_images_per_class() -> None:
    """Ten patches at 160x64 are ten images: the gradients are the same numbers (Fig. 6)."""
    spec = DataSpec("tiny", tuple("abcdefghij"), (3, 32, 32), ("flip", "rotate"))
    generator = seeded(0, "real")
    split = Split(torch.randn(20, 3, 32, 32, generator=generator).double(), torch.arange(20) % 10)
    real = replace(real_data(), spec=spec, train=split)
    sizes = check_options(
        PosterOptions, {"size": "64x160", "patches": "2x5", "classes": "2x5"}, where="repr"
    )
    poster = join(
        real,
        Poster(sizes, spec=spec),
        lambda placement: Poddl(PoddlOptions(mode="fixed"), placement=placement),
    )
    images = join(
        real,
        Images(ImagesOptions(), spec=spec),
        lambda placement: Onehot(Options(), placement=placement),
    )
    classes = poster.all().labels
    assert torch.equal(classes.sort(0).values[-1], torch.ones(10).double())
    place = torch.tensor([int(row.argmax()) for row in images.all().labels]).argsort()
    with torch.no_grad():
        by_class = poster.all().images[classes.argmax(1).argsort()]
        next(images.representation.parameters())[place] = by_class
    algorithm = ratbptt(real, window=2, total=3, real_batch=20, augment="none")
    metrics = [dict(algorithm.outer_step(s, step=0, rng=Streams(0))) for s in (poster, images)]
    assert metrics[0]["loss"] == pytest.approx(metrics[1]["loss"], rel=1e-10)
    # The gradient of the poster, cut into patches as the poster itself is.
    (whole,) = poster.representation.parameters()
    assert whole.grad is not None
    whole.data.copy_(whole.grad)
    found = poster.all().images.detach()[classes.argmax(1).argsort()]
    expected = gradients(images)[0][place]
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-12)

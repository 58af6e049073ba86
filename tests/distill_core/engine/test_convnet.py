"""The kernels' derivatives against autograd's, in every number type."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.derivatives import InnerLoss
from distill_core.contracts.network import FlatModel
from distill_core.contracts.streams import global_seed, seeded
from distill_core.contracts.synthetic import Batch
from distill_core.engine.autograd import AutogradLoss
from distill_core.engine.convnet import ConvNetLoss
from distill_core.engine.kernels import native
from distill_core.system.memory import PeakBytes

# Sizes with and without rests of pooling, of vectors and of blocks of channels.
NETWORKS = [
    ((3, 32, 32), 20, 3),
    ((1, 28, 28), 16, 3),  # padded to 32x32
    ((3, 8, 8), 9, 2),
    ((1, 8, 8), 33, 1),
    ((3, 13, 21), 17, 2),
    ((2, 17, 19), 8, 3),
]
BOUNDS = {torch.float64: 1e-12, torch.float32: 2e-5}


def made(
    shape: tuple[int, int, int], width: int, depth: int, dtype: torch.dtype, growth: int = 1
) -> ConvNet:
    spec = DataSpec("made", tuple("abcdefg"), shape, ())
    with global_seed(seeded(0)):
        options = ConvNetOptions(width=width, depth=depth, growth=growth)
        return ConvNet(options, spec=spec).to(dtype)


def drawn(net: ConvNet, shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[Batch, Tensor]:
    """A batch whose labels do not sum to 1, and a direction."""
    generator = seeded(1)
    images = torch.randn(5, *shape, generator=generator, dtype=dtype)
    labels = torch.rand(5, 7, generator=generator, dtype=dtype)
    size = sum(p.numel() for p in net.parameters())
    return Batch(images, labels), torch.randn(size, generator=generator, dtype=dtype)


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def check_derivatives(
    shape: tuple[int, int, int],
    width: int,
    depth: int,
    dtype: torch.dtype,
    *,
    microbatch: int | None = None,
    growth: int = 1,
) -> None:
    net = made(shape, width, depth, dtype, growth)
    model = FlatModel(net)
    batch, vector = drawn(net, shape, dtype)
    structure = net.conv_blocks()
    assert structure is not None
    ours, theirs = ConvNetLoss(model, structure, microbatch=microbatch), AutogradLoss(model)
    evaluated = zip(
        ours.evaluate(model.theta, batch), theirs.evaluate(model.theta, batch), strict=True
    )
    multiplied = zip(
        ours.product(model.theta, batch, vector),
        theirs.product(model.theta, batch, vector),
        strict=True,
    )
    assert ours.evaluate(model.theta, batch).retained is None
    for found, wanted in (*list(evaluated)[:3], *multiplied):
        assert isinstance(found, Tensor)
        assert isinstance(wanted, Tensor)
        assert found.shape == wanted.shape
        assert found.dtype == dtype
        assert error(found, wanted) < BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(("shape", "width", "depth"), NETWORKS)
@pytest.mark.parametrize("microbatch", [None, 2])
def test_all_derivatives_equal_those_of_autograd(
    shape: tuple[int, int, int],
    width: int,
    depth: int,
    dtype: torch.dtype,
    microbatch: int | None,
) -> None:
    check_derivatives(shape, width, depth, dtype, microbatch=microbatch)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(
    ("shape", "width", "growth"), [((3, 16, 16), 8, 2), ((1, 13, 9), 5, 2), ((2, 8, 8), 3, 3)]
)
def test_blocks_may_have_more_channels_than_those_before(
    shape: tuple[int, int, int], width: int, growth: int, dtype: torch.dtype
) -> None:
    check_derivatives(shape, width, 3, dtype, growth=growth)


@pytest.fixture
def plain_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels compiled for any processor of this kind, whose vectors are narrow."""
    monkeypatch.setattr(native, "_FLAGS", (("-fopenmp",), ()))
    native.outcome.cache_clear()
    yield
    native.outcome.cache_clear()


@pytest.mark.usefixtures("plain_library")
def test_all_derivatives_are_the_same_with_narrow_vectors() -> None:
    for (shape, width, depth), dtype in itertools.product(NETWORKS, BOUNDS):
        check_derivatives(shape, width, depth, dtype)


def test_half_precision_points_the_same_way() -> None:
    shape = (3, 32, 32)
    net = made(shape, 32, 3, torch.float32)
    model = FlatModel(net)
    batch, vector = drawn(net, shape, torch.float32)
    structure = net.conv_blocks()
    assert structure is not None
    ours = ConvNetLoss(model, structure, storage=torch.bfloat16)
    theirs = AutogradLoss(model)
    gradient = ours.evaluate(model.theta, batch).gradient
    assert error(gradient, theirs.evaluate(model.theta, batch).gradient) < 0.1
    found, wanted = (loss.product(model.theta, batch, vector) for loss in (ours, theirs))
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        assert error(one, other) < 0.2


def test_the_bias_before_a_norm_has_no_gradient_at_all() -> None:
    net = made((3, 8, 8), 4, 2, torch.float32)
    model = FlatModel(net)
    batch, vector = drawn(net, (3, 8, 8), torch.float32)
    structure = net.conv_blocks()
    assert structure is not None
    loss = ConvNetLoss(model, structure)
    for flat in (
        loss.evaluate(model.theta, batch).gradient,
        loss.product(model.theta, batch, vector).theta,
    ):
        for name, (place, _) in model.places().items():
            before_norm = name in {"blocks.0.bias", "blocks.4.bias"}
            assert bool(flat[place].any()) != before_norm, name


def test_the_same_call_gives_the_same_bits() -> None:
    net = made((3, 16, 16), 24, 2, torch.float32)
    model = FlatModel(net)
    batch, vector = drawn(net, (3, 16, 16), torch.float32)
    structure = net.conv_blocks()
    assert structure is not None
    loss = ConvNetLoss(model, structure)
    first, again = (loss.product(model.theta, batch, vector) for _ in range(2))
    assert all(map(torch.equal, first, again))


@pytest.mark.parametrize("path", [AutogradLoss, ConvNetLoss])
@pytest.mark.parametrize(("shape", "width", "depth"), NETWORKS)
def test_a_product_with_what_was_retained_is_the_same_but_for_rounding(
    shape: tuple[int, int, int], width: int, depth: int, path: type[AutogradLoss | ConvNetLoss]
) -> None:
    dtype = torch.float64
    net = made(shape, width, depth, dtype)
    model, structure = FlatModel(net), net.conv_blocks()
    assert structure is not None
    batch, vector = drawn(net, shape, dtype)
    for microbatch in (None, 2):
        if path is AutogradLoss:
            loss: InnerLoss = AutogradLoss(model, microbatch)
        else:
            loss = ConvNetLoss(model, structure, microbatch=microbatch)
        plain = loss.evaluate(model.theta, batch)
        found = loss.evaluate(model.theta, batch, retain=True)
        assert found.retained is not None
        # What there is for the kernels to retain begins with the second block.
        assert (found.retained.nbytes > 0) == (depth > 1 or path is AutogradLoss)
        anew = loss.product(model.theta, batch, vector)
        saved = loss.product(model.theta, batch, vector, found.retained)
        for one, other in zip((*found[:3], *saved), (*plain[:3], *anew), strict=True):
            assert error(one, other) < BOUNDS[dtype]


def test_what_was_retained_in_half_precision_gives_the_same_product() -> None:
    shape = (3, 32, 32)
    net = made(shape, 32, 3, torch.float32)
    model, structure = FlatModel(net), net.conv_blocks()
    assert structure is not None
    batch, vector = drawn(net, shape, torch.float32)
    loss = ConvNetLoss(model, structure, storage=torch.bfloat16)
    anew = loss.product(model.theta, batch, vector)
    retained = loss.evaluate(model.theta, batch, retain=True).retained
    assert retained is not None
    saved = loss.product(model.theta, batch, vector, retained)
    for one, other in zip(saved, anew, strict=True):
        assert error(one, other) < 0.02


@pytest.mark.parametrize("path", [AutogradLoss, ConvNetLoss])
def test_what_is_retained_is_counted(path: type[AutogradLoss | ConvNetLoss]) -> None:
    """By the memory that falls when it is let go."""
    net = made((3, 16, 16), 24, 2, torch.float32)
    model, structure = FlatModel(net), net.conv_blocks()
    assert structure is not None
    batch, _ = drawn(net, (3, 16, 16), torch.float32)
    loss = AutogradLoss(model) if path is AutogradLoss else ConvNetLoss(model, structure)
    loss.evaluate(model.theta, batch, retain=True)  # counts; the next one knows
    with PeakBytes() as memory:
        found = loss.evaluate(model.theta, batch, retain=True)
        assert found.retained is not None
        nbytes, before = found.retained.nbytes, memory.alive
        found = found._replace(retained=None)
        gc.collect()
        freed = before - memory.alive
    assert nbytes == pytest.approx(freed, rel=0.05)


@pytest.mark.parametrize("option", ["norm", "pooling", "activation"])
def test_other_networks_have_no_structure(option: str) -> None:
    spec = DataSpec("made", ("a", "b"), (3, 8, 8), ())
    other = {"norm": "batch", "pooling": "max", "activation": "silu"}
    assert ConvNet(ConvNetOptions(width=4), spec=spec).conv_blocks() is not None
    changed = ConvNetOptions.model_validate({"width": 4, option: other[option]})
    assert ConvNet(changed, spec=spec).conv_blocks() is None

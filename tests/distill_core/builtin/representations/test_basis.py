"""The basis representation: mixtures against loops, its budget, and runs with it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from distill_core.builtin.labelers.onehot import Onehot
from distill_core.builtin.representations.basis import Basis, BasisOptions, items_per_class
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Placement
from distill_core.contracts.streams import seeded
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.run.loop import OuterLoop
from distill_core.testing import check_representation
from registry import InputError, Options
from tests.distill_core.small_run import small_assembly


def spec(num_classes: int = 10, shape: tuple[int, int, int] = (3, 32, 32)) -> DataSpec:
    return DataSpec("made", tuple(map(str, range(num_classes))), shape, ())


def placed(made: Basis, num_classes: int) -> Placement:
    return Placement(made.layout, torch.arange(num_classes).flip(0).reshape(made.layout.grid_shape))


def test_cifar_at_one_image_per_class_as_published() -> None:
    """16 bases of 16x16 and floor((30720 - 12288) / 160) rows of 16 for each class."""
    made = Basis(BasisOptions(), spec=spec(), ipc=1)
    assert made.bases.shape == (16, 3, 16, 16)
    assert made.coefficients.shape == (1150, 16)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(2, 7),
    st.integers(1, 9),
    st.integers(1, 3),
    st.floats(0.3, 3),
    st.sampled_from([(1, 8, 8), (3, 7, 9)]),
)
def test_the_budget_is_used_up_to_a_row_of_every_class(
    num_classes, bases, downsample, ipc, shape
) -> None:
    options, facts = BasisOptions(bases=bases, downsample=downsample), spec(num_classes, shape)
    try:
        made = Basis(options, spec=facts, ipc=ipc)
    except InputError as refusal:
        least = float(refusal.expected.split()[2])
        assert ipc < least * 1.001
        assert items_per_class(options, facts, least * 1.001) == 1
        return
    placement = placed(made, num_classes)
    labeler = Onehot(Options(), placement=placement)
    budget = SyntheticDataset(made, labeler, placement=placement, spec=facts).budget()
    row = num_classes * bases / (num_classes * shape[0] * shape[1] * shape[2])
    assert ipc - row - 1e-9 < budget.ipc <= ipc + 1e-9


def test_every_item_is_its_mixture_of_enlarged_bases(make_real) -> None:
    real = make_real(6, (3, 8, 8))
    made = Basis(BasisOptions(bases=3), spec=real.spec, ipc=0.5).double()
    made.reset(placed(made, 6), real, generator=seeded(0, "init"))
    images = made.expand(made.layout.items)
    for row, image in zip(made.coefficients, images, strict=True):
        small = sum(share * base for share, base in zip(row, made.bases, strict=True))
        assert torch.allclose(image, interpolate(small[None], (8, 8), mode="bilinear")[0])


def test_the_start_has_xavier_bounds_and_follows_the_generator(make_real) -> None:
    real = make_real(10, (3, 8, 8))
    made = Basis(BasisOptions(init_scale=2.0), spec=real.spec, ipc=1)
    made.reset(placed(made, 10), real, generator=seeded(0, "init"))
    base_bound = 2 * (6 / (16 + 48)) ** 0.5
    row_bound = (6 / (16 + made.per_class)) ** 0.5
    for tensor, bound in zip(made.state_dict().values(), (base_bound, row_bound), strict=True):
        assert 0.9 * bound < float(tensor.abs().max()) <= bound
    first = made.bases.detach().clone()
    made.reset(placed(made, 10), real, generator=seeded(1, "init"))
    assert not torch.equal(first, made.bases)


@pytest.mark.parametrize("options", [BasisOptions(), BasisOptions(bases=2, downsample=3)])
def test_it_keeps_the_contract(options: BasisOptions) -> None:
    check_representation(partial(Basis, options), name="basis")


def test_too_many_bases_are_refused_with_what_would_do() -> None:
    with pytest.raises(InputError) as caught:
        Basis(BasisOptions(bases=50), spec=spec(), ipc=1)
    assert caught.value.what.startswith("50 bases leave no room for coefficients at --ipc 1.")
    assert "1.266 images per class" in caught.value.expected  # (50 * 768 + 10 * 50) / 30720


@pytest.mark.parametrize(
    ("algo", "options"),
    [
        ("ratbptt", {"window": 2, "total": 3, "batch": 8, "real_batch": 16}),
        ("bptt", {"steps": 2, "batch": 8}),
        ("dd", {"steps": 2, "real_batch": 16}),
    ],
)
@pytest.mark.parametrize("labeler", ["onehot", "soft"])
def test_it_is_learned_by_every_algorithm(
    algo: str, options: dict[str, Any], labeler: str, tmp_path: Path
) -> None:
    assembly = small_assembly(
        repr="basis",
        labeler=labeler,
        orderer="identity",
        algo=algo,
        steps=1,
        ipc=1,
        options={"repr": {"bases": 4}, "algo": options},
    )
    before = {name: t.clone() for name, t in assembly.synthetic.state_dict().items()}
    OuterLoop(assembly, tmp_path).run()
    for name, parameter in assembly.synthetic.named_parameters():
        assert not torch.equal(parameter, before[name]), name

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from distill_core.builtin.labelers.onehot import Onehot
from distill_core.builtin.representations.images import Images, ImagesOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Placement
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.data.downsample import upsample
from distill_core.testing import check_representation
from podd_plugin.poddl import Poddl, PoddlOptions
from podd_plugin.poster import Poster, PosterOptions
from registry import InputError
from registry.options import Options


def spec(num_classes: int = 10, shape=(3, 32, 32)) -> DataSpec:
    return DataSpec("made", tuple(map(str, range(num_classes))), shape, ())


def poster(num_classes=10, shape=(3, 32, 32), ipc=None, **options) -> Poster:
    return Poster(PosterOptions(**options), spec=spec(num_classes, shape), ipc=ipc)


def reset(made: Poster, real, seed=0) -> torch.Tensor:
    grid = torch.arange(real.spec.num_classes).reshape(made.layout.grid_shape)
    generator = torch.Generator().manual_seed(seed)
    made.reset(Placement(made.layout, grid), real, generator=generator)
    return made.pixels.detach()


def test_published_layout_column_by_column():
    layout = poster(ipc=0.9, size="60x153", patches="6x16").layout
    corners = layout.items.yxyx[:, :2].tolist()
    assert len(corners) == 96
    assert corners[:7] == [[0, 0], [6, 0], [11, 0], [17, 0], [22, 0], [28, 0], [0, 8]]
    assert corners[-1] == [28, 121]
    assert layout.items.hw == (32, 32)
    assert layout.cells.yxyx[0].tolist() == [0, 0, 30, 31]
    assert layout.cell_slot.tolist() == list(range(10))


def test_default_budget_and_patches():
    made = poster()
    assert tuple(made.pixels.shape) == (1, 3, 61, 151)
    assert len(made.layout.items) == 96
    assert made.layout.grid_shape == (2, 5)


@given(
    num_classes=st.integers(1, 12),
    ipc=st.floats(0.1, 3),
    hw=st.tuples(st.integers(2, 8), st.integers(2, 8)),
    cyclic=st.booleans(),
    per_class=st.sampled_from([None, True, False]),
)
def test_any_layout_is_sound_or_refused_with_a_reason(num_classes, ipc, hw, cyclic, per_class):
    arguments = {"num_classes": num_classes, "shape": (1, *hw), "ipc": ipc}
    options = {"cyclic": cyclic, "per_class": per_class}
    images_on_a_canvas = ipc if per_class else ipc * num_classes
    if images_on_a_canvas < 1:
        with pytest.raises(InputError, match="smaller than one patch"):
            poster(**arguments, **options)
        return
    try:
        made = poster(**arguments, **options)
    except InputError as refused:
        assume("class cells do not fit" not in refused.what)
        raise
    layout = made.layout
    height, width = layout.canvas_hw
    assert made.pixels[:, 0].numel() <= ipc * num_classes * hw[0] * hw[1] * (1 + 1e-9)
    assert layout.num_canvases == (
        num_classes if per_class or (per_class is None and ipc > 1) else 1
    )
    assert layout.items.hw == hw
    ends = layout.items.yxyx[:, 2:].max(0).values.tolist()
    assert ends == [height, width] or layout.wraps
    assert bool((layout.items.yxyx[:, :2] < torch.tensor([height, width])).all())
    # No patch twice.
    places = torch.cat([layout.items.canvas[:, None], layout.items.yxyx], dim=1)
    assert len(places.unique(dim=0)) == len(places)
    # Cells tile every canvas, and every slot has its share.
    owned = torch.zeros(layout.num_canvases, height, width)
    for canvas, (y0, x0, y1, x1) in zip(
        layout.cells.canvas.tolist(), layout.cells.yxyx.tolist(), strict=True
    ):
        owned[canvas, y0:y1, x0:x1] += 1
    assert bool((owned == 1).all())
    assert layout.cell_slot.unique().tolist() == list(range(num_classes))
    assert made.expand(layout.items).shape == (len(layout.items), 1, *hw)


@pytest.mark.parametrize(
    ("options", "patches"),
    [({}, 100), ({"density": "published"}, 400), ({"patches": "5x6"}, 30)],
)
def test_a_short_inner_loop_has_fewer_patches(options, patches):
    made = Poster(PosterOptions(**options), spec=spec(100), ipc=0.4, item_draws=3000)
    assert len(made.layout.items) == patches


def test_above_one_image_each_class_has_a_poster_and_finer_cells():
    layout = poster(ipc=10).layout
    assert layout.num_canvases == 10
    assert layout.canvas_hw == (101, 101)
    assert len(layout.cells) == 10 * 3 * 3
    assert torch.equal(layout.cell_slot, layout.cells.canvas)
    assert layout.grid_shape == (2, 5)


def test_one_poster_above_one_image_keeps_its_class_grid_with_finer_cells():
    layout = poster(4, (1, 4, 4), ipc=4, per_class=False).layout
    assert layout.canvas_hw == (16, 16)
    assert layout.cell_slot.reshape(4, 4).tolist() == [
        [0, 0, 1, 1],
        [0, 0, 1, 1],
        [2, 2, 3, 3],
        [2, 2, 3, 3],
    ]


def test_seven_classes_at_half_an_image_fit_in_a_strip():
    made = poster(7, (1, 8, 8), ipc=0.5)
    assert made.layout.canvas_hw == (8, 28)
    assert made.layout.grid_shape == (1, 7)
    assert len(made.layout.items) == 8


def test_a_cyclic_poster_covers_every_pixel_alike():
    made = poster(4, (1, 4, 4), size="8x8", patches="8x8", cyclic=True)
    made.pixels.grad = None
    made.expand(made.layout.items).sum().backward()
    assert made.pixels.grad.unique().tolist() == [16]


@pytest.mark.parametrize("cyclic", [False, True])
@pytest.mark.parametrize("ipc", [0.4, 1.0, 3.0])
def test_half_the_sides_make_four_times_the_area_at_the_same_budget(ipc, cyclic):
    made = poster(ipc=ipc, downsample=2, cyclic=cyclic)
    stored, whole = made.pixels.shape[-2:], made.layout.canvas_hw
    assert whole == tuple(2 * side for side in stored)
    assert made.pixels.numel() / 3 <= ipc * 10 * 32 * 32 < 1.02 * made.pixels.numel() / 3
    assert len(made.layout.cells) == len(poster(ipc=ipc, cyclic=cyclic).layout.cells)
    assert made.canvases().shape[-2:] == whole
    assert made.expand(made.layout.items).shape[1:] == (3, 32, 32)


def test_the_layout_of_a_trial_poster_of_half_the_sides():
    """Four times the area of 64x160 pixels, and the patches of a poster of 4 IPC."""
    layout = poster(ipc=1.0, downsample=2).layout
    assert layout.canvas_hw == (128, 320)
    assert len(layout.items) == 8 * 20
    assert len(layout.cells) == 10


@pytest.mark.parametrize("cyclic", [False, True])
def test_patches_are_cut_from_the_canvas_that_is_scaled_up(make_real, cyclic):
    real = make_real(4, (2, 6, 6), per_class=1)
    made = poster(4, (2, 6, 6), ipc=0.7, downsample=2, cyclic=cyclic, patches="3x3")
    reset(made, real)
    boxes = made.layout.items
    around = upsample(made.pixels, 2, wraps=cyclic).repeat(1, 1, 2, 2)
    for patch, (y0, x0, y1, x1) in zip(made.expand(boxes), boxes.yxyx.tolist(), strict=True):
        assert torch.equal(patch, around[0, :, y0:y1, x0:x1])


def test_real_images_on_a_smaller_poster_are_their_block_means(make_real):
    real = make_real(4, (1, 8, 8), per_class=3)
    made = poster(4, (1, 8, 8), ipc=0.25, patches="2x2", init="real", downsample=2)
    placement = Placement(made.layout, torch.tensor([[2, 0], [3, 1]]))
    made.reset(placement, real, generator=torch.Generator().manual_seed(0))
    means = torch.nn.functional.avg_pool2d(real.train.images, 2)
    for at, label in (((0, 0), 2), ((0, 4), 0), ((4, 0), 3), ((4, 4), 1)):
        part = made.pixels.detach()[0, :, at[0] : at[0] + 4, at[1] : at[1] + 4]
        near = (means[real.train.labels == label] - part).abs().amax(dim=(1, 2, 3))
        assert float(near.min()) < 1e-6


def test_a_smaller_poster_keeps_the_contract():
    options = PosterOptions(downsample=2)
    check_representation(partial(Poster, options), name="poster")
    cyclic = PosterOptions(downsample=3, cyclic=True)
    check_representation(partial(Poster, cyclic), name="poster")


@pytest.mark.parametrize(
    ("num_classes", "ipc", "options", "what", "next"),
    [
        (10, 0.05, {}, "a poster of 512 pixels is smaller than one patch", "--ipc"),
        (10, 0.5, {"per_class": True}, "a poster of 512 pixels", "--ipc"),
        (10, None, {"size": "31x200"}, "31x200 pixels is smaller than a patch", "repr.size"),
        (10, None, {"classes": "2x4"}, "2x4 has fewer places than the 10 classes", "repr.classes"),
        (10, None, {"classes": "3x4"}, "3x4 has more places than the 10 classes", "repr.classes"),
        (10, None, {"size": "15x100", "downsample": 2}, "15x100 pixels is smaller", "repr.size"),
        (10, None, {"downsample": 33}, "less than a pixel at 1/33", "repr.downsample"),
        (40, None, {"size": "32x32", "classes": "1x40"}, "1x40 class cells do not fit", "--ipc"),
    ],
)
def test_what_does_not_fit_is_refused(num_classes, ipc, options, what, next):
    with pytest.raises(InputError) as caught:
        poster(num_classes, ipc=ipc, **options)
    assert what in caught.value.what
    assert caught.value.expected
    assert next in caught.value.next


def test_noise_has_the_scale_of_the_published_code(make_real):
    real = make_real(10, (3, 32, 32), per_class=1)
    assert float(reset(poster(), real).std()) == pytest.approx(0.0180, rel=0.02)
    assert float(reset(poster(init="paper"), real).std()) == pytest.approx(1, rel=0.02)


def test_blended_areas_keep_the_norm_where_they_do_not_overlap(make_real):
    real = make_real(10, (3, 32, 32), per_class=1)
    made = poster(ipc=1, patches="2x5", init="blend")
    reset(made, real)
    norms = made.expand(made.layout.items).flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(10))
    shrunk = reset(poster(ipc=0.5, init="blend"), real)
    assert 0.5 * 0.018 < float(shrunk.std()) < 0.018


def test_real_images_lie_on_their_class_cells(make_real):
    real = make_real(4, (1, 8, 8), per_class=3)
    made = poster(4, (1, 8, 8), ipc=1, patches="2x2", init="real")
    placement = Placement(made.layout, torch.tensor([[2, 0], [3, 1]]))
    made.reset(placement, real, generator=torch.Generator().manual_seed(0))
    patches = made.expand(made.layout.items).detach()
    for patch, label in zip(patches, [2, 3, 0, 1], strict=True):
        members = real.train.images[real.train.labels == label]
        assert bool((members == patch).all(dim=(1, 2, 3)).any())


def test_real_images_of_one_class_fill_its_own_poster(make_real):
    real = make_real(2, (1, 4, 4), per_class=4)
    made = poster(2, (1, 4, 4), ipc=4, patches="2x2", init="real")
    placement = Placement(made.layout, torch.tensor([[1, 0]]))
    made.reset(placement, real, generator=torch.Generator().manual_seed(0))
    members = real.train.images[real.train.labels == 1]
    patches = made.expand(made.layout.items).detach()[:4]
    found = {int((members == patch).all(dim=(1, 2, 3)).nonzero()) for patch in patches}
    assert found == {0, 1, 2, 3}


@pytest.mark.parametrize("init", ["noise", "paper", "blend", "real"])
def test_starting_pixels_follow_the_generator(make_real, init):
    real = make_real(6, (2, 4, 4), per_class=5)
    made = poster(6, (2, 4, 4), ipc=0.8, init=init)
    first = reset(made, real).clone()
    assert bool(first.any(dim=1).all())
    assert torch.equal(reset(made, real), first)
    assert not torch.equal(reset(made, real, seed=1), first)


def test_ten_patches_without_overlap_equal_one_image_per_class(make_real):
    """Images, labels and gradients: the baseline is a poster of ten patches."""
    real = make_real(10, (3, 32, 32), per_class=1)
    grid = torch.randperm(10, generator=torch.Generator().manual_seed(3)).reshape(2, 5)
    one = poster(size="64x160", patches="2x5").double()
    reset(one, real)
    many = Images(ImagesOptions(), spec=real.spec).double()
    # Patches are listed column by column, images row by row.
    order = torch.arange(10).reshape(5, 2).T.reshape(-1)
    with torch.no_grad():
        many.pixels.copy_(one.expand(one.layout.items)[order])
    labelers = [
        Poddl(PoddlOptions(mode="fixed"), placement=Placement(one.layout, grid)),
        Onehot(Options(), placement=Placement(many.layout, grid)),
    ]
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(3600, 10)
    ).double()
    batches = []
    for representation, labeler in zip([one, many], labelers, strict=True):
        placement = Placement(representation.layout, grid)
        batch = SyntheticDataset(representation, labeler, placement=placement, spec=real.spec).all()
        torch.nn.functional.cross_entropy(net(batch.images), batch.labels).backward()
        batches.append(batch)
    torch.testing.assert_close(batches[0].images[order], batches[1].images, rtol=0, atol=0)
    torch.testing.assert_close(batches[0].labels[order], batches[1].labels, rtol=0, atol=0)
    assert batches[0].labels.sum(0).tolist() == [1.0] * 10
    cut = [one.pixels.grad[0, :, y0:y1, x0:x1] for y0, x0, y1, x1 in one.layout.items.yxyx.tolist()]
    gradient = torch.stack(cut)[order]
    assert float(gradient.abs().max()) > 0
    torch.testing.assert_close(gradient, many.pixels.grad, rtol=1e-12, atol=1e-15)

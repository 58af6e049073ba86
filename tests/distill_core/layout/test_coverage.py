"""Coverage: counts of items, and gradients divided by them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill_core.builtin.labelers.onehot import Onehot
from distill_core.builtin.representations.images import Images, ImagesOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Placement
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.layout.labels import normalize_by_coverage
from podd_plugin.poddl import Poddl, PoddlOptions
from podd_plugin.poster import Poster, PosterOptions
from registry.options import Options

SPEC = DataSpec("made", tuple("abcdef"), (2, 4, 4), ())


def placed(layout) -> Placement:
    return Placement(layout, torch.arange(6).reshape(layout.grid_shape))


def poster() -> SyntheticDataset:
    made = Poster(PosterOptions(patches="2x5"), spec=SPEC, ipc=None)
    placement = placed(made.layout)
    labeler = Poddl(PoddlOptions(), placement=placement)
    return SyntheticDataset(made, labeler, placement=placement, spec=SPEC)


def images() -> SyntheticDataset:
    made = Images(ImagesOptions(), spec=SPEC, ipc=2)
    placement = placed(made.layout)
    labeler = Onehot(Options(), placement=placement)
    return SyntheticDataset(made, labeler, placement=placement, spec=SPEC)


def test_coverage_counts_the_items_over_every_pixel():
    data = poster()
    (found,) = data.coverage()
    wanted = torch.zeros_like(found)
    for canvas, (y0, x0, y1, x1) in zip(
        data.placement.layout.items.canvas, data.placement.layout.items.yxyx, strict=True
    ):
        wanted[canvas, :, y0:y1, x0:x1] += 1
    assert torch.equal(found, wanted)
    assert found.max() > found.min()
    assert all(p.grad is None for p in data.parameters())


def test_whole_images_are_covered_once_and_keep_their_gradients_bit_for_bit():
    data = images()
    (found,) = data.coverage()
    assert torch.equal(found, torch.ones_like(found))
    (pixels,) = data.groups()["data"]
    pixels.grad = torch.randn(pixels.shape)
    before = pixels.grad.clone()
    assert normalize_by_coverage([pixels], [found])
    assert torch.equal(pixels.grad, before)


def test_gradients_are_divided_by_relative_coverage():
    data = poster()
    (pixels,), coverage = data.groups()["data"], data.coverage()
    data.all().images.sum().backward()
    assert normalize_by_coverage([pixels], coverage)
    mean = float(coverage[0].mean())
    torch.testing.assert_close(pixels.grad, mean * (coverage[0] > 0).to(pixels.dtype))


def test_fixed_pixels_have_no_coverage():
    data = images()
    data.representation.requires_grad_(False)
    assert data.coverage() == []
    assert not normalize_by_coverage([], [])


@pytest.mark.parametrize("reached", [0.0, 2.0])
def test_numbers_that_are_no_pixels_are_left_alone(reached):
    """The second number sums to nothing over an item, as a frequency does, but has a gradient."""
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, reached])
    done = normalize_by_coverage([parameter], [torch.tensor([4.0, 0.0])])
    assert done == (reached == 0)
    assert parameter.grad.tolist() == ([1.5, 0.0] if done else [3.0, 2.0])

from __future__ import annotations

from math import inf

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.layout.ordering import (
    class_features,
    class_grid_shape,
    class_means,
    cosine_distances,
    neighbour_distance,
    ordering_score,
)


@given(st.integers(1, 500))
def test_class_grid_is_the_most_square_pair_of_divisors(num_classes):
    rows, cols = class_grid_shape(num_classes)
    assert rows * cols == num_classes
    assert rows <= cols
    assert not any(
        num_classes % side == 0 and rows < side <= num_classes // side
        for side in range(1, num_classes + 1)
    )


@pytest.mark.parametrize("most", [1, 100, 2**28])
def test_class_means_and_features(make_real, most, monkeypatch):
    monkeypatch.setattr("distill_core.layout.ordering.MOST_NUMBERS", most)
    real = make_real(3, (2, 4, 4), per_class=4)
    means = class_means(real)
    for label in range(3):
        members = [
            image.double().flatten()
            for image, other in zip(real.train.images, real.train.labels, strict=True)
            if int(other) == label
        ]
        torch.testing.assert_close(means[label], sum(members) / 4, rtol=0, atol=1e-6)
    features = class_features(real)
    torch.testing.assert_close(features.sum(0), torch.zeros(32, dtype=torch.float64))
    torch.testing.assert_close(features[0] - features[1], means[0] - means[1])


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31))
def test_cosine_distances_equal_the_definition(num_classes, width, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_classes, width, generator=generator)
    found = cosine_distances(rows)
    for i in range(num_classes):
        for j in range(num_classes):
            a, b = rows[i].double(), rows[j].double()
            cosine = float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())
            assert float(found[i, j]) == pytest.approx(1 - cosine if i != j else 0, abs=1e-9)
    assert torch.equal(found, found.T)


def test_a_class_without_direction_is_far_from_all_but_itself():
    found = cosine_distances(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    assert found.tolist() == [[0, 1], [1, 0]]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_ordering_score_is_the_inverse_sum_over_neighbour_pairs(rows, cols, seed):
    generator = torch.Generator().manual_seed(seed)
    distances = cosine_distances(torch.randn(rows * cols, 3, generator=generator))
    grid = torch.randperm(rows * cols, generator=generator).reshape(rows, cols)
    total = 0.0
    for r in range(rows):
        for c in range(cols):
            if r + 1 < rows:
                total += float(distances[grid[r, c], grid[r + 1, c]])
            if c + 1 < cols:
                total += float(distances[grid[r, c], grid[r, c + 1]])
    assert neighbour_distance(grid, distances) == pytest.approx(total, abs=1e-12)
    assert ordering_score(grid, distances) == pytest.approx(1 / total if total else inf)

from __future__ import annotations

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_core.layout.ordering import (
    class_features,
    cosine_distances,
    neighbour_distance,
    ordering_score,
)
from podd_plugin.poco import Poco, PocoOptions, Qap, QapOptions, greedy_grid, places
from podd_plugin.published import published_grids

TRAVERSALS = ["zigzag", "diagonal", "raster", "snake"]
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5))


def made_distances(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return cosine_distances(torch.randn(count, 4, generator=generator))


def text(cells: list[tuple[int, int]]) -> str:
    return " ".join(f"{row}{col}" for row, col in cells)


def clip_distances(file) -> torch.Tensor:
    with numpy.load(file) as arrays:
        return cosine_distances(torch.from_numpy(arrays["embeddings"].astype("float64")))


@pytest.mark.parametrize(
    ("traversal", "shape", "expected"),
    [
        ("diagonal", (3, 3), "00 10 01 20 11 02 21 12 22"),
        ("zigzag", (3, 3), "00 01 10 20 11 02 12 21 22"),
        ("diagonal", (2, 5), "00 10 01 11 02 12 03 13 04 14"),
        ("zigzag", (2, 5), "00 01 10 11 02 03 12 13 04 14"),
        ("raster", (2, 3), "00 01 02 10 11 12"),
        ("snake", (2, 3), "00 01 02 12 11 10"),
    ],
)
def test_published_traversals(traversal, shape, expected):
    assert text(places(shape, traversal)) == expected


@given(SHAPES, st.sampled_from(TRAVERSALS))
def test_every_traversal_visits_every_place_once_from_the_corner(shape, traversal):
    visited = places(shape, traversal)
    assert visited[0] == (0, 0)
    assert sorted(visited) == [(r, c) for r in range(shape[0]) for c in range(shape[1])]


@given(SHAPES, st.sampled_from(TRAVERSALS))
def test_every_place_has_a_placed_neighbour_and_diagonals_only_up_and_left(shape, traversal):
    seen: set[tuple[int, int]] = set()
    for row, col in places(shape, traversal):
        beside = {(row - 1, col), (row, col - 1), (row + 1, col), (row, col + 1)} & seen
        assert beside or not seen
        if traversal in ("zigzag", "diagonal"):
            assert beside <= {(row - 1, col), (row, col - 1)}
        seen.add((row, col))


@given(SHAPES, st.sampled_from(TRAVERSALS), st.integers(0, 2**31))
def test_greedy_is_algorithm_2(shape, traversal, seed):
    distances = made_distances(shape[0] * shape[1], seed)
    grid = greedy_grid(distances, shape, traversal)
    placed: dict[tuple[int, int], int] = {}
    left = list(range(shape[0] * shape[1]))
    for row, col in places(shape, traversal):
        beside = [(row - 1, col), (row, col - 1), (row + 1, col), (row, col + 1)]
        neighbours = [placed[place] for place in beside if place in placed]
        chosen = min(left, key=lambda c: sum(float(distances[m, c]) for m in neighbours))
        assert int(grid[row, col]) == chosen
        placed[row, col] = chosen
        left.remove(chosen)
    assert left == []
    assert int(grid[0, 0]) == 0


@given(SHAPES, st.sampled_from(TRAVERSALS), st.integers(0, 2**31))
def test_greedy_follows_a_relabelling_that_keeps_the_first_class(shape, traversal, seed):
    count = shape[0] * shape[1]
    distances = made_distances(count, seed)
    generator = torch.Generator().manual_seed(seed)
    # new[i] is the new number of class i.
    new = torch.cat([torch.zeros(1).long(), 1 + torch.randperm(count - 1, generator=generator)])
    relabelled = torch.empty_like(distances)
    relabelled[new[:, None], new[None, :]] = distances
    grid = greedy_grid(relabelled, shape, traversal)
    assert torch.equal(grid, new[greedy_grid(distances, shape, traversal)])


def test_ties_go_to_the_lowest_class():
    distances = torch.ones(6, 6) - torch.eye(6)
    assert greedy_grid(distances, (2, 3), "raster").tolist() == [[0, 1, 2], [3, 4, 5]]


@given(SHAPES, st.sampled_from([(Poco, PocoOptions), (Qap, QapOptions)]))
@settings(max_examples=20)
def test_orderers_return_permutations_for_every_grid(make_real, shape, kind):
    orderer, options = kind
    count = shape[0] * shape[1]
    real = make_real(count, (1, 3, 3), per_class=2)
    made = orderer(options(similarity="image"))
    grids = [made.order(real, shape, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert grids[0].shape == shape
    assert grids[0].dtype == torch.int64
    assert sorted(grids[0].reshape(-1).tolist()) == list(range(count))
    assert torch.equal(*grids)


def test_notes_say_which_similarity_was_used_and_the_score(make_real):
    real = make_real(6)
    poco = Poco(PocoOptions(similarity="image"))
    assert poco.notes == {}
    grid = poco.order(real, (2, 3), generator=torch.Generator())
    score = ordering_score(grid, cosine_distances(class_features(real)))
    assert poco.notes == {
        "similarity": "image",
        "similarity_reason": "as asked: class means of the training images",
        "ordering_score": f"{score:.5g}",
    }


@given(st.integers(0, 2**31))
@settings(max_examples=10)
def test_qap_is_never_worse_than_greedy(make_real, seed):
    real = make_real(8, (1, 3, 3), per_class=1, seed=seed)
    distances = cosine_distances(class_features(real))
    found = Qap(QapOptions(similarity="image", restarts=2)).order(
        real, (2, 4), generator=torch.Generator().manual_seed(seed)
    )
    greedy = greedy_grid(distances, (2, 4), "zigzag")
    assert neighbour_distance(found, distances) <= neighbour_distance(greedy, distances) + 1e-9


@pytest.mark.parametrize(
    ("traversal", "score", "as_printed"),
    [("diagonal", 0.03234, 7), ("zigzag", 0.03194, 5), ("raster", 0.03252, None),
     ("snake", 0.03262, None)],
)  # fmt: skip
def test_scores_on_real_clip_embeddings(test_data, traversal, score, as_printed):
    distances = clip_distances(test_data("clip/cifar100.npz"))
    grid = greedy_grid(distances, (10, 10), traversal)
    assert round(ordering_score(grid, distances), 5) == score
    if as_printed is not None:
        with numpy.load(test_data("clip/cifar100.npz")) as arrays:
            names = [str(name) for name in arrays["names"]]
        printed = [name for row in published_grids()["fig7"] for name in row]
        chosen = [names[label] for label in grid.reshape(-1).tolist()]
        assert sum(a == b for a, b in zip(chosen, printed, strict=True)) == as_printed


def test_qap_beats_every_greedy_order_on_real_clip_embeddings(test_data, make_real):
    file = test_data("clip/cifar100.npz")
    distances = clip_distances(file)
    with numpy.load(file) as arrays:
        names = tuple(str(name) for name in arrays["names"])
    real = make_real(100, (1, 2, 2), per_class=1, class_names=names)
    qap = Qap(QapOptions(file=file, restarts=2))
    grid = qap.order(real, (10, 10), generator=torch.Generator().manual_seed(0))
    best = max(
        ordering_score(greedy_grid(distances, (10, 10), traversal), distances)
        for traversal in TRAVERSALS
    )
    assert ordering_score(grid, distances) > best
    assert qap.notes["similarity"] == "file"

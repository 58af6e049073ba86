from __future__ import annotations

import json

import numpy
import pytest
import torch

from distill_core.layout.ordering import cosine_distances, ordering_score
from podd_plugin.published import Published, PublishedOptions, published_grids
from registry import InputError

FIGURES = [("fig7", "cifar100", (10, 10)), ("fig8", "cifar10", (2, 5))]


def sorted_names(figure: str) -> tuple[str, ...]:
    """Class names in the order of the data sets, which is alphabetical."""
    return tuple(sorted(str(name) for row in published_grids()[figure] for name in row))


@pytest.fixture
def cifar(make_real):
    return lambda figure: make_real(
        len(sorted_names(figure)), (1, 2, 2), per_class=1, class_names=sorted_names(figure)
    )


@pytest.mark.parametrize(("figure", "dataset", "shape"), FIGURES)
@pytest.mark.parametrize("asked", ["auto", "same"])
def test_printed_grids_are_permutations(cifar, figure, dataset, shape, asked):
    options = PublishedOptions(figure=figure if asked == "same" else "auto")
    grid = Published(options).order(cifar(figure), shape, generator=torch.Generator())
    assert grid.shape == shape
    assert sorted(grid.reshape(-1).tolist()) == list(range(shape[0] * shape[1]))


def test_corners_and_rows_as_printed(cifar):
    names = sorted_names("fig8")
    grid = Published(PublishedOptions()).order(cifar("fig8"), (2, 5), generator=torch.Generator())
    assert [[names[label] for label in row] for row in grid.tolist()] == [
        ["truck", "airplane", "bird", "deer", "cat"],
        ["automobile", "ship", "frog", "horse", "dog"],
    ]
    assert grid.tolist() == [[9, 0, 2, 4, 3], [1, 8, 6, 7, 5]]
    fig7 = published_grids()["fig7"]
    assert (fig7[0][0], fig7[0][9], fig7[9][0], fig7[9][9]) == (
        *("apple", "leopard", "beetle", "chimpanzee"),
    )


@pytest.mark.parametrize(("figure", "dataset", "shape"), FIGURES)
def test_names_are_those_of_the_data_sets(test_data, figure, dataset, shape):
    names = json.loads(test_data("class_names.json").read_text())[dataset]
    assert tuple(names) == sorted_names(figure)


@pytest.mark.parametrize(
    ("figure", "score", "share_below"), [("fig7", 0.03075, 1.0), ("fig8", 0.6423, 0.98)]
)
def test_printed_grids_score_above_random(test_data, cifar, figure, score, share_below):
    dataset, shape = next((dataset, shape) for name, dataset, shape in FIGURES if name == figure)
    with numpy.load(test_data(f"clip/{dataset}.npz")) as arrays:
        distances = cosine_distances(torch.from_numpy(arrays["embeddings"].astype("float64")))
        assert tuple(str(name) for name in arrays["names"]) == sorted_names(figure)
    grid = Published(PublishedOptions()).order(cifar(figure), shape, generator=torch.Generator())
    found = ordering_score(grid, distances)
    assert found == pytest.approx(score, rel=2e-4)
    generator = torch.Generator().manual_seed(0)
    random = [
        ordering_score(torch.randperm(grid.numel(), generator=generator).reshape(shape), distances)
        for _ in range(500)
    ]
    assert sum(other < found for other in random) >= share_below * 500


def test_other_classes_and_grids_are_refused(make_real, cifar):
    order = Published(PublishedOptions()).order
    with pytest.raises(InputError, match="no grid was published for 7 classes"):
        order(make_real(7), (1, 7), generator=torch.Generator())
    with pytest.raises(InputError, match="fig8 has 2 rows of 5, 5 classes") as caught:
        order(cifar("fig8"), (5, 2), generator=torch.Generator())
    assert "repr.classes" in caught.value.next
    with pytest.raises(InputError, match="fig8: no match for 'truck'") as caught:
        order(make_real(10), (2, 5), generator=torch.Generator())
    assert "--orderer poco" in caught.value.next

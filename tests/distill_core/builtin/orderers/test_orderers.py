from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.builtin.orderers.orderers import (
    Given,
    GivenOptions,
    Identity,
    Photometric,
    PhotometricOptions,
    Random,
    class_colours,
)
from distill_core.config.sections import DataOptions
from distill_core.contracts.data import DataSpec, RawData, RealData
from distill_core.data.prepare import prepare
from registry import InputError, OptionError
from registry.options import Options, check_options

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coloured(colours: list[list[int]], whitening: str = "standardise") -> RealData:
    """Classes of one colour each, two images per class."""
    images = torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 4, 4)
    images, labels = images.repeat(2, 1, 1, 1), torch.arange(len(colours)).repeat(2)
    names = tuple(f"colour_{i}" for i in range(len(colours)))
    spec = DataSpec("colours", names, tuple(images.shape[1:]), ())
    raw = RawData(spec, images, labels, images, labels)
    options = DataOptions(whitening=whitening, validation=0)
    return prepare(raw, options, seed=0, device=torch.device("cpu"))


@given(SHAPES, st.sampled_from([Identity, Random]))
def test_every_grid_is_a_permutation(make_real, shape, orderer):
    count = shape[0] * shape[1]
    real = make_real(count, (1, 2, 2), per_class=1)
    grid = orderer(Options()).order(real, shape, generator=seeded())
    assert grid.shape == shape
    assert grid.dtype == torch.int64
    assert sorted(grid.reshape(-1).tolist()) == list(range(count))


def test_identity_is_in_label_order(make_real):
    grid = Identity(Options()).order(make_real(6), (2, 3), generator=seeded())
    assert grid.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_random_follows_the_generator(make_real):
    real = make_real(10)
    a, b, c = (Random(Options()).order(real, (2, 5), generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@given(SHAPES)
def test_photometric_is_a_permutation(make_real, shape):
    real = make_real(shape[0] * shape[1], (3, 2, 2), per_class=1)
    orderer = Photometric(PhotometricOptions(restarts=1))
    grid = orderer.order(real, shape, generator=seeded())
    assert sorted(grid.reshape(-1).tolist()) == list(range(shape[0] * shape[1]))


def test_class_colours_are_those_of_the_pictures():
    real = coloured([[255, 0, 0], [0, 51, 102]])
    torch.testing.assert_close(
        class_colours(real),
        torch.tensor([[1.0, 0, 0], [0, 0.2, 0.4]]).double(),
        rtol=0,
        atol=1e-6,
    )


def test_photometric_sorts_shades_and_says_so():
    shades = [90, 10, 250, 170]
    orderer = Photometric(PhotometricOptions())
    grid = orderer.order(coloured([[s] * 3 for s in shades]), (1, 4), generator=seeded())
    assert grid.tolist() in ([[1, 0, 3, 2]], [[2, 3, 0, 1]])
    assert orderer.notes["similarity"] == "mean colour"
    # 240 levels from the darkest to the brightest, in each of three channels.
    assert float(orderer.notes["ordering_score"]) == pytest.approx(
        1 / (240 / 255 * 3**0.5), rel=1e-4
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("grid.txt", "class_3, class_0  # a comment\n\nCLASS-1, 2\n"),
        ("grid.csv", "class_3,class_0\nclass_1,class_2"),
        ("grid", "3 0\n1 2\n"),
        ("grid.json", json.dumps([["class 3", 0], [1, "class_2"]])),
        ("grid.toml", "grid = [[3, 'class_0'],\n ['class 1', 2]]"),
    ],
)
def test_given_reads_text_json_and_toml(make_real, tmp_path, name, text):
    file = tmp_path / name
    file.write_text(text)
    grid = Given(GivenOptions(file=file)).order(make_real(4), (2, 2), generator=seeded())
    assert grid.tolist() == [[3, 0], [1, 2]]


def test_given_reads_a_file_in_the_home_folder(make_real, tmp_path, monkeypatch):
    """A shell leaves ~ as it is in `-o orderer.file=~/FILE`."""
    (tmp_path / "grid.txt").write_text("3 0\n1 2\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    options = GivenOptions(file=Path("~/grid.txt"))
    grid = Given(options).order(make_real(4), (2, 2), generator=seeded())
    assert grid.tolist() == [[3, 0], [1, 2]]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("missing.txt", None, "cannot be read"),
        ("bad.json", b"[[1, 2", "cannot be read"),
        ("bad.toml", b"grid = [[", "cannot be read"),
        ("bad.txt", b"\xff\xfe\xff", "cannot be read"),
        ("flat.json", b"[1, 2, 3]", "not a list of rows"),
        ("no_grid.toml", b"rows = [[1]]", "not a list of rows"),
        ("short.txt", b"0 1\n", "1 rows of 2 classes"),
        ("double.txt", b"0 1\n1 2\n", "lacks 'class_3' and has 'class_1' more than once"),
    ],
)
def test_given_names_the_file_that_it_cannot_use(make_real, tmp_path, name, content, what):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        Given(GivenOptions(file=file)).order(make_real(4), (2, 2), generator=seeded())
    assert name in caught.value.what
    assert what in caught.value.what
    assert caught.value.next


def test_given_needs_a_file():
    with pytest.raises(OptionError, match=r"orderer\.file"):
        check_options(GivenOptions, {}, where="orderer")

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill_core.system.cached_tensors import Misfit, keep_tensors, kept_tensors, tensor_digest
from distill_core.system.files import read_tensors, write_tensors

KEY = {"what": "numbers", "seed": 3}
SHAPES = {"a": (2, 3), "b": (4,)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kept.safetensors"
    keep_tensors(path, {"a": torch.ones(2, 3), "b": torch.arange(4.0)}, KEY)
    return path


def test_what_was_kept_comes_back_whole_or_in_part(file: Path) -> None:
    assert torch.equal(kept_tensors(file, KEY, SHAPES)["a"], torch.ones(2, 3))
    assert list(kept_tensors(file, KEY, {"b": (4,)})) == ["b"]
    with pytest.raises(FileNotFoundError):
        kept_tensors(file.with_name("none"), KEY, SHAPES)


@pytest.mark.parametrize("name", ["a", "b"])
def test_one_changed_number_is_noticed(file: Path, name: str) -> None:
    tensors, said = read_tensors(file)
    tensors[name].view(-1)[0] += 1
    write_tensors(file, tensors, said)
    with pytest.raises(Misfit, match="does not have the digest"):
        kept_tensors(file, KEY, SHAPES)


def test_what_does_not_fit_is_said(file: Path, tmp_path: Path) -> None:
    with pytest.raises(Misfit, match="was made from something else"):
        kept_tensors(file, {**KEY, "seed": 4}, SHAPES)
    with pytest.raises(Misfit, match=r"holds \(2, 3\) of torch.float32 instead of \(3, 2\)"):
        kept_tensors(file, KEY, {"a": (3, 2)})
    with pytest.raises(Misfit, match="holds nothing instead of"):
        kept_tensors(file, KEY, {"c": (1,)})
    keep_tensors(file, {"a": torch.full((2,), torch.inf)}, KEY)
    with pytest.raises(Misfit, match="not finite"):
        kept_tensors(file, KEY, {"a": (2,)})
    file.write_bytes(b"x")
    with pytest.raises(Misfit, match="cannot be read"):
        kept_tensors(file, KEY, SHAPES)
    with pytest.raises(Misfit, match="is not a file"):
        kept_tensors(tmp_path, KEY, SHAPES)


def test_digests_may_be_missing_where_that_is_said(file: Path) -> None:
    tensors, said = read_tensors(file)
    for digests in ({}, [], None, "x"):
        write_tensors(file, tensors, {**said, "sha256": digests})
        with pytest.raises(Misfit, match="does not have the digest"):
            kept_tensors(file, KEY, SHAPES, without_digests=lambda: None)
    write_tensors(file, tensors, KEY)
    told: list[int] = []
    assert kept_tensors(file, KEY, SHAPES, without_digests=lambda: told.append(1))
    assert told == [1]
    with pytest.raises(Misfit, match="does not have the digest"):
        kept_tensors(file, KEY, SHAPES)


def test_a_digest_is_of_type_shape_and_bytes() -> None:
    zeros = torch.zeros(2, 3)
    others = (zeros.T, zeros.double(), zeros.int(), zeros + 1, torch.zeros(6))
    assert len({tensor_digest(each) for each in (zeros, *others)}) == 6
    assert tensor_digest(zeros.T.contiguous().T) == tensor_digest(zeros)

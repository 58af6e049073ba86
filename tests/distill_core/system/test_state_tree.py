from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.system.state_tree import copied, pack, unpack
from tests.distill_core.run.test_checkpoint import trees


@given(trees)
def test_any_tree_comes_back_from_bytes(value: object) -> None:
    assert unpack(pack(value)) == value
    assert copied(value) == value


@given(st.sampled_from([torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]))
def test_tensors_come_back_exactly(dtype: torch.dtype) -> None:
    views = [torch.arange(12).to(dtype).view(3, 4).T, torch.zeros(0, 3).to(dtype)]
    for before, after in zip(views, unpack(pack({"views": views}))["views"], strict=True):
        assert after.dtype == dtype
        assert torch.equal(before, after)


def test_keys_with_dots_are_told_apart() -> None:
    tree = {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2), "b.": torch.tensor(3)}}
    for found in (copied(tree), unpack(pack(tree))):
        assert found == tree


def test_a_copy_does_not_change_with_the_original() -> None:
    tensor = torch.zeros(2)
    kept = copied({"a": [tensor]})
    tensor += 1
    assert kept["a"][0].tolist() == [0, 0]


def test_a_lone_tensor_and_nothing() -> None:
    assert torch.equal(unpack(pack(torch.arange(3))), torch.arange(3))
    assert unpack(pack(None)) is None


def test_what_cannot_be_told_is_named() -> None:
    with pytest.raises(TypeError, match=r"value\.pool is a set"):
        pack({"pool": {1}})

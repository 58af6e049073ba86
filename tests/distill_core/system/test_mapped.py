from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill_core.system.mapped import mapped, read_rows
from registry import EnvironmentFault


@pytest.fixture
def images(tmp_path: Path) -> Tensor:
    """100 images of 4,800 bytes, on the disk."""
    numbers = torch.randint(0, 256, (100, 3, 40, 40), generator=torch.Generator().manual_seed(0))
    (tmp_path / "images").write_bytes(numbers.to(torch.uint8).numpy().tobytes())
    return mapped(tmp_path / "images", (100, 3, 40, 40), torch.uint8)


def _rows(images: Tensor, index: list[int]) -> Tensor:
    found = torch.empty((len(index), *images.shape[1:]), dtype=torch.uint8)
    read_rows(images, torch.tensor(index, dtype=torch.int64), found)
    return found


@pytest.mark.parametrize("index", [[], [7], [3, 4, 5, 9, 8, 8, 99, 0, 1], list(range(100))])
def test_rows_of_a_file_are_those_of_its_map(images: Tensor, index: list[int]) -> None:
    assert torch.equal(_rows(images, index), images[index])
    assert torch.equal(_rows(images.clone(), index), images[index])


def test_a_view_in_another_order_is_no_row_of_the_file(images: Tensor) -> None:
    turned = images.transpose(2, 3)
    assert torch.equal(_rows(turned, [4, 5]), turned[[4, 5]])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="counts pages as Linux tells")
def test_reading_rows_brings_no_pages_into_the_process(images: Tensor) -> None:
    _rows(images, [*range(0, 100, 2)])
    address = f"{images.data_ptr():x}"
    rest = Path("/proc/self/smaps").read_text().split(f"\n{address}-")[1]
    assert re.search(r"^Rss: *0 kB$", rest.split("VmFlags")[0], re.M)


def test_a_file_that_was_cut_is_said(images: Tensor, tmp_path: Path) -> None:
    os.truncate(tmp_path / "images", 7 * 4800 + 1)
    with pytest.raises(EnvironmentFault, match="images was cut while it was in use"):
        _rows(images, [6, 7])


def test_the_file_is_closed_with_its_last_tensor(images: Tensor, tmp_path: Path) -> None:
    def still_open() -> int:
        return sum(
            os.path.realpath(f"/proc/self/fd/{each}") == str(tmp_path / "more")
            for each in os.listdir("/proc/self/fd")
        )

    (tmp_path / "more").write_bytes(bytes(10))
    more = mapped(tmp_path / "more", (10,), torch.uint8)
    before = still_open()
    del more
    assert before
    assert not still_open()

"""What `distill order` is asked for: where the picture goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_core.commands.order_request import read_request
from tests.distill_core.small_run import installed


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("data/birds.ZIP", "order-birds-identity.png"),
        ("shards/birds {00..09}.tar", "order-birds_00..09_-identity.png"),
        ("b" * 300, f"order-{'b' * 40}-identity.png"),
    ],
)
def test_the_picture_is_called_after_the_data_as_files_can_be(path: str, file: str) -> None:
    data = {"dataset": "imagefolder", "options": {"dataset": {"path": path}}}
    request = read_request(
        {"orderer": "identity"}, installed(), weaker=data, grid=None, rivals=(), out=None
    )
    assert request.out == Path(file)

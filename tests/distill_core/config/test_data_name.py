"""What data are called for a reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_core.config.data_name import data_name
from distill_core.config.discovery import discover
from distill_core.config.run_config import resolve


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/me/birds", "birds"),
        ("birds/", "birds"),
        ("shards/birds.tar", "birds"),
        (Path("birds-v1.2.zip"), "birds-v1.2"),
        ("birds.ZIP", "birds"),
        (r"C:\data\birds", "birds"),
        ("C:\\data\\birds.zip\\", "birds"),
        (".", "imagefolder"),
        ("..", "imagefolder"),
        (None, "imagefolder"),
    ],
)
def test_own_data_are_called_as_their_file_or_folder(path, name) -> None:
    options = {} if path is None else {"path": path, "size": 32}
    assert data_name({"name": "imagefolder", "options": options}) == name


def test_datasets_are_called_as_they_are() -> None:
    assert data_name({"name": "cifar10", "options": {"root": "/home/me/data"}}) == "cifar10"
    assert data_name({"name": "digits"}) == "digits"


def test_name_of_the_data_of_a_configuration() -> None:
    parts = {"repr": "images", "labeler": "onehot", "orderer": "identity", "algo": "dm"}
    assert resolve(parts, discover()).data_name == "digits"
    own = parts | {"dataset": "imagefolder", "options": {"dataset": {"path": "x/birds.zip"}}}
    assert resolve(own, discover()).data_name == "birds"

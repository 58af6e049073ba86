"""The checks of datasets: sound ones pass, every fault is found and named."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Generator

from distill_core.contracts.data import DataSpec, RawData
from distill_core.contracts.streams import seeded
from distill_core.testing import check_dataset
from tests.distill_core.testing.faults import fault


class Dots:
    """Two classes of dots."""

    changes: ClassVar[dict[str, Any]] = {}

    def load(self) -> RawData:
        generator = seeded(0, "dots")
        images = torch.randint(256, (6, 1, 4, 4), generator=generator, dtype=torch.uint8)
        labels = torch.tensor([0, 1, 0, 1, 0, 1])
        fields: dict[str, Any] = {
            "spec": DataSpec("dots", ("a", "b"), (1, 4, 4), ()),
            "train_images": images,
            "train_labels": labels,
            "test_images": images[:2],
            "test_labels": labels[:2],
        }
        return RawData(**{**fields, **self.changes})


def dots(**changes: Any) -> type[Dots]:
    return type("Changed", (Dots,), {"changes": changes})


class Noise(Dots):
    def load(self) -> RawData:
        raw = super().load()
        generator = Generator()
        generator.seed()
        raw.train_images.random_(256, generator=generator)
        return raw


def test_a_sound_dataset_passes() -> None:
    check_dataset(Dots, name="x")


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Noise, "gives two different results for load"),
        (dots(train_labels=torch.tensor([0] * 6)), "has no training images of: b"),
        (dots(test_labels=torch.tensor([0, 2])), "test labels from 0 to 2"),
        (dots(test_labels=torch.tensor([0.0, 1.0])), "float32"),
        (dots(train_images=torch.zeros(6, 1, 4, 4)), "float32"),
        (dots(spec=DataSpec("dots", ("a", "a"), (1, 4, 4), ())), "2 classes named 'a'"),
        (dots(spec=DataSpec("dots", ("a", " "), (1, 4, 4), ())), "1 class named ' '"),
        (dots(spec=DataSpec("dots", ("a", "b"), (1, 4, 4), ("fly",))), "fly"),
        (dict, "has no method `load`"),
        (type("Null", (), {"load": lambda self: None}), "loads a NoneType, not RawData"),
    ],
)
def test_faults_of_datasets(broken: Any, sentence: str) -> None:
    text = fault(check_dataset, broken)
    assert text.startswith("dataset 'x' ")
    assert sentence in text


def test_an_outline_that_is_not_what_is_loaded() -> None:
    class Outlined(Dots):
        def outline(self) -> DataSpec:
            return DataSpec("dots", ("?", "!"), (1, 4, 5), ())

    assert "outlines ('dots', 2, (1, 4, 5), ()) but loads ('dots', 2, (1, 4, 4), ())" in fault(
        check_dataset, Outlined
    )

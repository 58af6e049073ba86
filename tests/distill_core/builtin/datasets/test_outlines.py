"""What datasets say of themselves before they are loaded."""

from __future__ import annotations

import pytest

from distill_core.config.discovery import discover

PLUGINS = discover()


@pytest.mark.parametrize(
    ("name", "num_classes", "image_shape"),
    [
        ("cifar10", 10, (3, 32, 32)),
        ("cifar100", 100, (3, 32, 32)),
        ("cub200", 200, (3, 32, 32)),
        ("digits", 10, (1, 8, 8)),
        ("fashion_mnist", 10, (1, 28, 28)),
        ("mnist", 10, (1, 28, 28)),
        ("shapes", 10, (3, 32, 32)),
        ("svhn", 10, (3, 32, 32)),
        ("tiny_imagenet", 200, (3, 64, 64)),
    ],
)
def test_outlines(name: str, num_classes: int, image_shape: tuple[int, int, int]) -> None:
    spec = PLUGINS["dataset"].create(name, {}).outline()
    assert (spec.name, spec.num_classes, spec.image_shape) == (name, num_classes, image_shape)
    assert len(set(spec.class_names)) == num_classes

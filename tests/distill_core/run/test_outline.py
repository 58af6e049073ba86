"""A dataset that says one thing of itself before its files are read, and loads another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distill_core.config.discovery import discover
from distill_core.run.assemble import assemble, load_real
from registry import ContractError, Options
from tests.distill_core.run.test_assemble import Offers
from tests.distill_core.small_run import SMALL, installed, small_config

SHAPES = installed()["dataset"].create("shapes", SMALL["options"]["dataset"])
LOADED = SHAPES.load().spec


def _plugin(outlined, loaded=LOADED):
    class Outlined:
        def outline(self):
            return outlined() if callable(outlined) else outlined

        def load(self):
            return replace(SHAPES.load(), spec=loaded)

    plugins = discover(extra=[("mine", Offers("datasets", lambda options: Outlined()))])
    config = small_config().model_copy(update={"dataset": "made"})
    config.options["dataset"] = Options()
    return config, plugins


def test_classes_may_have_other_names():
    names = tuple(f"class {k}" for k in range(6))
    assert load_real(*_plugin(replace(LOADED, class_names=names))).spec == LOADED


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"image_shape": (3, 8, 9)}, r"outlines \('shapes', 6, \(3, 8, 9\), .*loads .*\(3, 8, 8\)"),
        ({"class_names": ("a", "b")}, r"outlines \('shapes', 2, .*loads \('shapes', 6"),
        ({"augmentations": ()}, r"outlines .*\(\)\) but loads"),
        ({"name": "forms"}, r"outlines \('forms', .*loads \('shapes'"),
    ],
)
def test_an_outline_that_is_not_what_is_loaded_is_refused(other, message):
    with pytest.raises(ContractError, match=f"^dataset 'made' of mine .* {message}"):
        load_real(*_plugin(replace(LOADED, **other)))


def test_an_outline_that_is_none_is_named():
    with pytest.raises(ContractError, match=r"^dataset 'made' of mine .* returns dict from `out"):
        assemble(*_plugin({"image_shape": (3, 8, 8)}))


def test_an_outline_that_fails_is_named():
    with pytest.raises(ZeroDivisionError) as caught:
        assemble(*_plugin(lambda: 1 / 0))
    assert "raised by dataset 'made' of plugin mine" in caught.value.__notes__[0]

"""Models by name: a component and one of its models, and several networks at once."""

from __future__ import annotations

from typing import Any

import pytest

from distill_core.config.named_models import first_distills
from distill_core.config.networks import judges_of, rows_of
from distill_core.config.run_config import resolve, to_toml
from distill_core.config.settings import merge
from distill_core.system.files import parse_toml
from registry import OptionError, UnknownNameError
from tests.distill_core.small_run import SMALL, installed, small_config


def test_a_name_chooses_component_and_model_and_survives_its_file() -> None:
    config = small_config(backbone="timm:resnet18")
    assert config.component("backbone") == {"name": "timm", "options": {"name": "resnet18"}}
    assert config.named("backbone") == "timm:resnet18"
    assert resolve(parse_toml(to_toml(config)), installed()) == config
    assert small_config().named("backbone") == "convnet"


def test_another_model_takes_the_place_of_an_earlier_one() -> None:
    before = parse_toml(to_toml(small_config(backbone="timm:resnet18")))
    later = resolve(merge(before, {"backbone": "timm:resnet34"}), installed())
    assert later.named("backbone") == "timm:resnet34"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "convnet:wide"}, "'convnet:wide' names no backbone: 'convnet' is a single"),
        ({"backbone": "timm:"}, "'timm:' names no backbone: nothing follows the colon"),
        (
            {"backbone": "timm:resnet18", "options": {"backbone": {"name": "vgg11"}}},
            "two models are named: timm:resnet18 and backbone.name = 'vgg11'",
        ),
    ],
)
def test_what_names_no_model_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        small_config(**settings)


def test_an_unknown_component_before_the_colon() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'timm'"):
        small_config(backbone="tim:resnet18")


def test_a_model_without_its_component_is_refused_with_the_whole_name() -> None:
    with pytest.raises(UnknownNameError) as refused:
        small_config(backbone="resnet18")
    assert refused.value.next == "pass --backbone timm:resnet18."
    with pytest.raises(UnknownNameError) as refused:
        small_config(backbone="no_such_model")
    assert "timm:" not in refused.value.next


def test_the_first_of_several_networks_distills_and_keeps_its_options() -> None:
    config = small_config(backbone=["convnet", "timm:resnet18", "convnet"])
    assert config.written_options()["backbone"]["width"] == 4
    assert config.evaluate.backbones == ("timm:resnet18", "convnet")
    assert [*judges_of(config, installed())] == ["timm:resnet18"]
    assert first_distills({"backbone": "convnet"}) == {"backbone": "convnet"}
    assert judges_of(small_config(), installed()) == {}


def test_a_row_for_each_model() -> None:
    names = ("timm:resnet18", "convnet", "timm:convnext_tiny", "timm")
    rows = rows_of(SMALL, names, installed(), {"evaluate": {"nets": 3}})
    assert [*rows] == ["timm:resnet18", "convnet", "timm:convnext_tiny", "timm:resnet10t"]
    assert rows["convnet"].written_options()["backbone"]["width"] == 4
    assert {config.evaluate.nets for config in rows.values()} == {3}
    assert [*rows_of(SMALL, (), installed())] == ["convnet"]

"""Labels by default: what the algorithm can use, unless the user says otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from distill_core.config.discovery import discover
from distill_core.config.run_config import resolve, to_toml
from distill_core.config.settings import merge
from distill_core.hookspecs import hookimpl
from distill_core.run.assemble import assemble
from distill_core.system.files import parse_toml
from registry import Component, InputError, Options
from tests.distill_core.small_run import SMALL, installed, small_config


@pytest.mark.parametrize(
    ("algorithm", "options", "mode"),
    [
        ("dm", {}, "fixed"),
        ("dc", {}, "fixed"),
        ("dsa", {}, "fixed"),
        ("dc", {"learn_labels": True}, "learned"),
        ("mtt", {}, "learned"),
        ("none", {}, "learned"),
    ],
)
def test_the_algorithm_decides_where_nobody_says(
    algorithm: str, options: dict[str, Any], mode: str
) -> None:
    config = small_config(algo=algorithm, options={"algo": options})
    assert config.written_options()["labeler"]["mode"] == mode
    again = resolve(parse_toml(to_toml(config)), installed())
    assert again == config
    if mode == "fixed":
        assert assemble(config, installed()).synthetic.groups().keys() == {"data"}


def test_what_is_said_stays_and_is_refused_before_the_data() -> None:
    config = small_config(algo="dm", options={"labeler": {"mode": "learned"}})
    refused = "'dm' does not learn labels, and labeler 'poddl' has labels to learn"
    with pytest.raises(InputError, match=refused) as caught:
        assemble(config, installed(), check=lambda identity: pytest.fail("data were read"))
    assert "-o labeler.mode=fixed" in caught.value.next


class Own:
    """An algorithm of a plugin whose class alone says that it learns no labels."""

    learns_labels = False


class Offers:
    @hookimpl
    def distill_algorithms(self) -> list[Component]:
        return [Component("own", Own, Options, "mine")]


def test_the_class_of_a_plugins_algorithm_is_asked() -> None:
    plugins = discover(extra=[("own", Offers())])
    config = resolve(merge(SMALL, {"algo": "own"}), plugins)
    assert config.written_options()["labeler"]["mode"] == "fixed"

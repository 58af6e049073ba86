"""The public face: every name is there, in one tier, and type checkers see the same."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from distill_core import plugin
from tests.distill_core import plugin_stub

# What API 1.0 has promised; no name may ever leave this list before 2.0.
API_1_0 = Path(__file__).parents[1] / "fixtures" / "api-1.0.txt"


def test_every_name_of_api_1_0_is_still_there() -> None:
    assert set(API_1_0.read_text().split()) <= set(plugin.__all__)


@pytest.mark.parametrize("name", plugin.__all__)
def test_a_name_is_where_the_table_says(name: str) -> None:
    assert getattr(plugin, name) is not None


def test_a_name_has_one_place_in_one_tier() -> None:
    placed = [
        name
        for table in (plugin.CONTRACTS, plugin.TOOLS)
        for modules in table.values()
        for names in modules.values()
        for name in names
    ]
    assert sorted(placed) == sorted(plugin.__all__)
    assert len(set(placed)) == len(placed)


def test_the_first_tier_is_of_the_core_alone() -> None:
    """Contracts, hooks and the registry: what they need of the rest is none."""
    allowed = ("registry", "distill_core.hookspecs", "distill_core.contracts.")
    assert all(home.startswith(allowed) for home in plugin.homes(plugin.CONTRACTS).values())
    assert not any(home.startswith(allowed) for home in plugin.homes(plugin.TOOLS).values())


def test_the_tier_of_a_name_can_be_asked() -> None:
    assert {
        name: plugin.tier(name) for name in ("Engine", "InputError", "unroll", "cache_dir")
    } == {
        "Engine": 1,
        "InputError": 1,
        "unroll": 2,
        "cache_dir": 2,
    }
    with pytest.raises(KeyError):
        plugin.tier("homes")


def test_engine_and_experts_are_protocols() -> None:
    assert getattr(plugin.Engine, "_is_protocol", False)
    assert getattr(plugin.Experts, "_is_protocol", False)


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Maker'"):
        plugin.Maker  # noqa: B018


def test_type_checkers_see_the_same() -> None:
    assert plugin_stub.PATH.read_text(encoding="utf-8") == plugin_stub.stub()


def test_the_stub_has_every_function_of_the_module() -> None:
    tree = ast.parse(plugin_stub.stub())
    stubbed = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    own = {name for name, value in vars(plugin).items() if inspect.isfunction(value)}
    assert stubbed == {name for name in own if not name.startswith("_")}

"""Discovery: one by one, failures kept, nothing half registered, nothing global."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry import Component, DuplicateNameError, Provider, UnknownNameError
from tests.registry.coffee import (
    CUPS,
    Brew,
    Cup,
    espresso,
    filtered,
    install,
    load,
    plugin,
    with_hooks,
)

BREW = """
import pluggy
from registry import Component

@pluggy.HookimplMarker("coffee")
def coffee_brews():
    return [Component("{name}", "tests.registry.coffee:Brew", summary="from {name}")]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, into which distributions can be put."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("COFFEE_LOAD_PLUGINS", raising=False)
    return tmp_path


def reasons(plugins: object) -> dict[str, str]:
    failures = plugins.failures  # type: ignore[attr-defined]
    return {failure.provider.entry_point: failure.reason for failure in failures}


def test_no_plugins_make_empty_catalogues() -> None:
    plugins = load()
    assert plugins["brew"].names() == []
    assert plugins.providers == []
    assert plugins.failures == []


def test_plugins_from_memory_fill_the_catalogues() -> None:
    plugins = load(("one", plugin(espresso)), ("two", plugin(filtered)))
    assert plugins["brew"].names() == ["espresso", "filtered"]
    assert plugins["mill"].names() == []
    assert plugins.provided_by(Provider("one")) == {"brew": ["espresso"]}
    assert str(plugins["brew"].entry("filtered").provider) == "two ((not installed) 0)"


def test_nothing_is_global() -> None:
    load(("one", plugin(espresso)))
    assert load()["brew"].names() == []


def test_installed_plugins_carry_distribution_and_version(site: Path) -> None:
    install(site, "robusta_beans", BREW.format(name="robusta"), version="2.5")
    plugins = load()
    provider = plugins["brew"].entry("robusta").provider
    assert provider == Provider("robusta_beans", "robusta_beans", "2.5", "robusta_beans")
    assert plugins.providers == [provider]


def test_a_broken_import_is_kept_and_hurts_nobody(site: Path) -> None:
    install(site, "a_broken_mill", "import no_such_package")
    install(site, "robusta_beans", BREW.format(name="robusta"))
    plugins = load(("memory", plugin(espresso)))
    assert plugins["brew"].names() == ["espresso", "robusta"]
    assert reasons(plugins) == {
        "a_broken_mill": "ModuleNotFoundError: No module named 'no_such_package'"
    }
    assert "import no_such_package" in plugins.failures[0].traceback
    with pytest.raises(UnknownNameError, match="failed to load: a_broken_mill"):
        plugins["brew"].entry("grinder")


@pytest.mark.parametrize(
    "source",
    [
        "raise SystemExit(3)",
        "import sys; sys.exit()",
        "a b",
        "class Own(BaseException): pass\nraise Own",
        "class Own(KeyboardInterrupt): pass\nraise Own",
        "class Own(Exception):\n    def __str__(self): return 1\nraise Own",
    ],
)
def test_a_plugin_that_leaves_or_is_no_python_hurts_nobody(site: Path, source: str) -> None:
    install(site, "leaver", source)
    plugins = load(("memory", plugin(espresso)))
    assert plugins["brew"].names() == ["espresso"]
    assert list(reasons(plugins)) == ["leaver"]


def test_ctrl_c_during_an_import_is_the_users(site: Path) -> None:
    install(site, "slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load()


@pytest.mark.parametrize("source", ["\n1 / 0", "\na b"])
def test_the_place_of_a_fault_is_known(site: Path, source: str) -> None:
    install(site, "faulty", source)
    (failure,) = load().failures
    assert failure.place == f"{site / 'faulty.py'}, line 2"


def test_what_is_printed_at_import_is_no_result(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, "talker", f"print('hello')\n{BREW.format(name='robusta')}")
    assert load()["brew"].names() == ["robusta"]
    assert capsys.readouterr() == ("", "hello\n")


def test_an_entry_point_that_names_no_module(site: Path) -> None:
    install(site, "ghost", "")
    (site / "ghost.py").unlink()
    assert "No module named 'ghost'" in reasons(load())["ghost"]


def test_a_hook_that_raises() -> None:
    def coffee_brews() -> list[Component]:
        raise RuntimeError("no beans")

    broken = with_hooks(coffee_brews)
    plugins = load(("broken", broken), ("good", plugin(espresso)))
    assert reasons(plugins) == {"broken": "RuntimeError: no beans"}
    assert plugins["brew"].names() == ["espresso"]
    assert plugins.manager.get_plugins() == {plugins.manager.get_plugin("good")}


def test_a_misspelt_hook_is_an_error_of_that_plugin() -> None:
    def coffee_brew() -> list[Component]:
        return [espresso]

    plugins = load(
        ("misspelt", with_hooks(coffee_brew)),
        ("good", plugin(filtered)),
    )
    assert "unknown hook 'coffee_brew'" in reasons(plugins)["misspelt"]
    assert plugins["brew"].names() == ["filtered"]


def test_a_hook_with_an_argument_that_is_not_there() -> None:
    def coffee_brews(beans: str) -> list[Component]:
        return [espresso]

    plugins = load(
        ("greedy", with_hooks(coffee_brews)),
        ("good", plugin(filtered)),
    )
    assert "beans" in reasons(plugins)["greedy"]
    assert plugins["brew"].names() == ["filtered"]


@pytest.mark.parametrize("offered", [[Brew], [espresso, None], [espresso, espresso]])
def test_wrong_offers_fail_as_a_whole(offered: list[object]) -> None:
    plugins = load(("wrong", plugin(*offered)), ("good", plugin(filtered)))
    assert list(reasons(plugins)) == ["wrong"]
    assert plugins["brew"].names() == ["filtered"]


def test_a_hook_that_returns_no_list() -> None:
    def coffee_brews() -> int:
        return 3

    plugins = load(("three", with_hooks(coffee_brews)))
    assert "TypeError" in reasons(plugins)["three"]


def test_one_object_registered_twice_fails_the_second_time() -> None:
    one = plugin(espresso)
    plugins = load(("first", one), ("second", one))
    assert list(reasons(plugins)) == ["second"]
    assert plugins["brew"].names() == ["espresso"]


def test_one_name_from_two_plugins_is_refused(site: Path) -> None:
    install(site, "robusta_beans", BREW.format(name="espresso"), version="2.5")
    with pytest.raises(DuplicateNameError) as caught:
        load(("memory", plugin(espresso)))
    assert caught.value.providers == (
        "robusta_beans (robusta_beans 2.5)",
        "memory ((not installed) 0)",
    )


def test_only_restricts_loading(site: Path) -> None:
    install(site, "arabica_beans", BREW.format(name="arabica"))
    install(site, "robusta_beans", BREW.format(name="robusta"))
    assert load()["brew"].names() == ["arabica", "robusta"]
    assert load(only=["robusta_beans"])["brew"].names() == ["robusta"]
    assert load(only=[])["brew"].names() == []


def test_the_environment_variable_restricts_loading(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "arabica_beans", BREW.format(name="arabica"))
    install(site, "broken", "import no_such_package")
    monkeypatch.setenv("COFFEE_LOAD_PLUGINS", " arabica_beans , ")
    plugins = load()
    assert plugins["brew"].names() == ["arabica"]
    assert plugins.failures == []
    monkeypatch.setenv("COFFEE_LOAD_PLUGINS", "  ")
    assert list(reasons(load())) == ["broken"]


def test_an_unknown_plugin_in_the_environment_variable(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "arabica_beans", BREW.format(name="arabica"))
    monkeypatch.setenv("COFFEE_LOAD_PLUGINS", "arabica_bean")
    with pytest.raises(UnknownNameError) as caught:
        load()
    assert str(caught.value) == (
        "no plugin named 'arabica_bean'. Did you mean 'arabica_beans'?\n"
        "Expected one of: arabica_beans.\n"
        "Next: correct COFFEE_LOAD_PLUGINS or install the plugin."
    )


def test_importing_the_registry_is_light() -> None:
    code = (
        "import sys, registry; "
        "print([name for name in ('torch', 'numpy', 'pydantic', 'click', 'distill_core') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def cups(*names: str) -> Callable[[], list[Cup]]:
    """A hook that offers cups of these names."""

    def coffee_cups() -> list[Cup]:
        return [Cup(name) for name in names]

    return coffee_cups


def test_a_further_kind_is_collected_on_demand() -> None:
    plugins = load(("one", with_hooks(cups("mug"))), ("two", with_hooks(cups("beaker"))))
    collected = plugins.collect(CUPS)
    assert collected == {"beaker": Cup("beaker"), "mug": Cup("mug")}
    assert collected.entry("mug").provider == Provider("one")
    assert collected.failures == []


def test_a_plugin_keeps_its_components_if_a_further_kind_fails() -> None:
    def coffee_cups() -> list[Cup]:
        raise RuntimeError("dropped")

    def coffee_brews() -> list[Component]:
        return [espresso]

    clumsy = with_hooks(coffee_cups, coffee_brews)
    plugins = load(("clumsy", clumsy), ("tidy", with_hooks(cups("mug"))))
    collected = plugins.collect(CUPS)
    assert list(collected) == ["mug"]
    assert reasons(collected) == {"clumsy": "cups: RuntimeError: dropped"}
    assert plugins["brew"].names() == ["espresso"]
    with pytest.raises(UnknownNameError, match="failed to load: clumsy"):
        collected["bowl"]


def test_one_name_of_a_further_kind_from_two_plugins_is_refused() -> None:
    plugins = load(("one", with_hooks(cups("mug"))), ("two", with_hooks(cups("mug"))))
    with pytest.raises(DuplicateNameError, match="two cups are named 'mug'"):
        plugins.collect(CUPS)

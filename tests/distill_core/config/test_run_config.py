"""Configuration: order of strength, what may be written after -o, and files that come back."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from distill_core.config.discovery import discover
from distill_core.config.grid_shape import GridShape
from distill_core.config.run_config import resolve, to_toml
from distill_core.config.settings import merge, parse_overrides, read_settings
from distill_core.hookspecs import KINDS, hookimpl
from registry import (
    Component,
    InputError,
    OptionError,
    Options,
    Plugins,
    UnknownNameError,
    about,
)

NAMES = {"repr": "alpha", "labeler": "alpha", "orderer": "alpha", "algo": "alpha"}
ALL = {**NAMES, "dataset": "alpha", "backbone": "alpha"}


class AlphaOptions(Options):
    """Every type of option that a component is likely to have."""

    rate: float = Field(0.1, gt=0, description="rate")
    window: int = Field(60, ge=1, description="steps")
    size: GridShape = Field((6, 16), description="size")
    patches: GridShape | None = Field(None, description="patches")
    mode: Literal["fixed", "learned"] = Field("learned", description="mode")
    file: Path | None = Field(None, description="file")
    flag: bool = Field(False, description="flag")
    text: str = Field("", description="text")
    betas: tuple[float, float] = Field((0.9, 0.999), description="betas")
    names: list[str] = Field(default_factory=list, description="names")
    newer: str = Field("now", description="newer", **about(absent="before"))


def fake_plugins() -> Plugins:
    """Two components of every kind, and nothing that is installed."""
    module = ModuleType("fake")
    for kind in KINDS:

        def offer() -> list[Component]:
            return [
                Component("alpha", "no:where", AlphaOptions),
                Component("beta", "no:where", AlphaOptions),
            ]

        setattr(module, kind.hook, hookimpl(offer, specname=kind.hook))
    return discover(extra=[("fake", module)], only=[])


PLUGINS = fake_plugins()


def test_defaults_are_filled_in_and_named() -> None:
    config = resolve(ALL, PLUGINS)
    assert config.seed == 0
    assert config.data.whitening == "standardise"
    assert set(config.options) == {kind.option for kind in KINDS}
    assert config.options["algo"].window == 60
    assert config.options["algo"].size == (6, 16)
    assert config.component("algo")["options"]["size"] == "6x16"
    assert config.chosen("algo") == "alpha"


def test_order_of_strength() -> None:
    file = {**ALL, "seed": 1, "steps": 10, "options": {"algo": {"window": 7, "rate": 0.5}}}
    typed = {"seed": 2, **parse_overrides(["algo.window=9"])}
    config = resolve(merge(file, typed), PLUGINS)
    assert (config.seed, config.steps, config.minutes) == (2, 10, None)
    assert config.options["algo"].window == 9
    assert config.options["algo"].rate == 0.5
    assert config.options["algo"].mode == "learned"


def test_sections_are_merged_field_by_field() -> None:
    file = {**ALL, "data": {"whitening": "zca", "validation": 0.2}, "evaluate": {"nets": 3}}
    config = resolve(merge(file, parse_overrides(["data.validation=0.3"])), PLUGINS)
    assert (config.data.whitening, config.data.validation) == ("zca", 0.3)
    assert config.evaluate.nets == 3


def test_another_component_drops_the_options_of_the_old_one() -> None:
    file = {**ALL, "options": {"algo": {"window": 7}, "repr": {"rate": 2}}}
    config = resolve(merge(file, {"algo": "beta"}), PLUGINS)
    assert config.options["algo"].window == 60
    assert config.options["repr"].rate == 2


def test_the_same_component_keeps_its_options() -> None:
    file = {**ALL, "options": {"algo": {"window": 7}}}
    assert merge(file, {"algo": "alpha"})["options"] == {"algo": {"window": 7}}


def test_options_of_a_component_that_was_not_named_stay() -> None:
    file = {"options": {"algo": {"window": 7}, "backbone": {"window": 8}}}
    merged = merge(file, {**NAMES, "backbone": "convnet"})
    assert merged["options"] == {"algo": {"window": 7}, "backbone": {"window": 8}}


def test_options_of_the_default_component_go_with_it() -> None:
    file = {"options": {"backbone": {"window": 8}}}
    assert merge(file, {"backbone": "other"})["options"] == {}


def test_new_options_of_a_new_component_are_kept() -> None:
    file = {**ALL, "options": {"algo": {"window": 7}}}
    merged = merge(file, {"algo": "beta", "options": {"algo": {"rate": 3}}})
    assert merged["options"] == {"algo": {"rate": 3}}


def test_merging_changes_neither_side() -> None:
    weaker: dict[str, Any] = {"algo": "alpha", "options": {"algo": {"window": 7}}}
    stronger: dict[str, Any] = {"algo": "beta", "options": {"algo": {"rate": 1}}}
    assert merge(weaker, stronger) == {"algo": "beta", "options": {"algo": {"rate": 1}}}
    assert weaker == {"algo": "alpha", "options": {"algo": {"window": 7}}}
    assert stronger == {"algo": "beta", "options": {"algo": {"rate": 1}}}


def test_overrides_find_their_place() -> None:
    pairs = ["algo.window=60", "data.validation=0.2", "evaluate.nets=2", "run.seed=3"]
    assert parse_overrides(pairs) == {
        "options": {"algo": {"window": "60"}},
        "data": {"validation": "0.2"},
        "evaluate": {"nets": "2"},
        "seed": "3",
    }


def test_the_last_override_wins_and_values_may_have_equals_signs() -> None:
    found = parse_overrides(["algo.text=a", "algo.text= b=c "])
    assert found == {"options": {"algo": {"text": "b=c"}}}


def test_lists_and_quoted_strings_are_read_as_toml() -> None:
    found = parse_overrides(['algo.names=["a", "b"]', "algo.betas=[0.5, 0.9]", "algo.text=' x '"])
    assert found["options"]["algo"] == {"names": ["a", "b"], "betas": [0.5, 0.9], "text": " x "}


@pytest.mark.parametrize("pair", ["", "algo", "algo.window", "window=3", "algo.=3", ".window=3"])
def test_an_override_of_another_form(pair: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_overrides([pair])
    assert str(caught.value) == (
        f"-o {pair} has no effect.\n"
        "Expected the form -o kind.field=value, for example -o algo.window=60.\n"
        "Next: correct it."
    )


def test_an_override_of_an_unknown_kind() -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse_overrides(["labler.mode=fixed"])
    assert str(caught.value) == (
        "no kind of option named 'labler'. Did you mean 'labeler'?\n"
        "Expected one of: algo, backbone, data, dataset, engine, evaluate, labeler, orderer, repr, "
        "run.\n"
        "Next: correct it."
    )


@pytest.mark.parametrize("value", ["[1, 2", "'open", "{a = }"])
def test_a_list_that_is_not_closed(value: str) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        parse_overrides([f"algo.names={value}"])


def wrong(settings_: dict[str, Any]) -> str:
    with pytest.raises((OptionError, UnknownNameError)) as caught:
        resolve(settings_, PLUGINS)
    return str(caught.value)


def test_nothing_chosen() -> None:
    assert wrong({"repr": "alpha"}) == (
        "nothing says which labeler, orderer, algo to use.\n"
        "Expected --repr, --labeler, --orderer and --algo, or a file or preset with them.\n"
        "Next: `distill list` shows what can be chosen, `distill presets` whole configurations."
    )


def test_a_mistyped_name_is_told_before_other_components_are_asked_for() -> None:
    assert wrong({"orderer": "alpa"}).startswith("no orderer named 'alpa'. Did you mean 'alpha'?")
    text = wrong({**{name: "alpha" for name in NAMES if name != "repr"}, "rpr": "alpha"})
    assert text.startswith("unknown option run.rpr. Did you mean 'run.repr'?")


def test_a_mark_at_the_start_of_a_file_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbfsteps = 3\n")  # as Notepad may write it
    assert read_settings(tmp_path / "run.toml") == {"steps": 3}


def test_an_unknown_component() -> None:
    text = wrong({**ALL, "orderer": "alpa"})
    assert text.startswith(
        "no orderer named 'alpa'. Did you mean 'alpha'?\nExpected one of: alpha, beta.\n"
    )


@pytest.mark.parametrize(
    ("settings_", "what"),
    [
        ({"steps": 0}, "option run.steps = 0 is not valid."),
        ({"seed": -1}, "option run.seed = -1 is not valid."),
        ({"ipc": "many"}, "option run.ipc = 'many' is not valid."),
        ({"stepps": 3}, "unknown option run.stepps."),
        ({"data": {"validation": 1}}, "option data.validation = 1 is not valid."),
        ({"data": {"valid": 1}}, "unknown option data.valid."),
        ({"evaluate": {"nets": 0}}, "option evaluate.nets = 0 is not valid."),
        ({"data": 3}, "option run.data = 3 is not valid."),
        ({"options": {"algo": 3}}, "option run.options.algo = 3 is not valid."),
        ({"options": {"algo": {"windw": 3}}}, "unknown option algo.windw."),
        ({"options": {"algo": {"window": 0}}}, "option algo.window = 0 is not valid."),
        ({"options": {"algoo": {}}}, "no kind of option named 'algoo'."),
    ],
)
def test_mistakes_are_named_as_the_user_wrote_them(settings_: dict[str, Any], what: str) -> None:
    assert wrong({**ALL, **settings_}).splitlines()[0].partition(" Did you mean ")[0] == what


def test_an_unknown_field_has_a_suggestion() -> None:
    assert "Did you mean 'run.steps'?" in wrong({**ALL, "stepps": 3})
    assert "Did you mean 'algo.window'?" in wrong({**ALL, "options": {"algo": {"windw": 3}}})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_settings(tmp_path / "no.toml")
    assert str(caught.value).splitlines()[0] == (
        f"there is no configuration file {tmp_path / 'no.toml'}."
    )


@pytest.mark.parametrize("content", [b"seed = ", b"seed 3", b"\xff\xfe", b"[options\n"])
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.toml cannot be read"):
        read_settings(path)


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(tmp_path)


# What TOML can hold: any text but lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
sides = st.integers(1, 999)
grids = st.tuples(sides, sides).map(lambda hw: f"{hw[0]}x{hw[1]}")
positive = st.floats(1e-12, 1e12, allow_nan=False)
options = st.fixed_dictionaries(
    {},
    optional={
        "rate": positive,
        "window": st.integers(1, 2**40),
        "size": grids,
        "patches": st.none() | grids,
        "mode": st.sampled_from(["fixed", "learned"]),
        "file": texts.filter(lambda text: "\0" not in text),
        "flag": st.booleans(),
        "text": texts,
        "betas": st.tuples(positive, positive).map(list),
        "names": st.lists(texts, max_size=3),
    },
)
runs = st.fixed_dictionaries(
    {name: st.sampled_from(["alpha", "beta"]) for name in ALL},
    optional={
        "ipc": st.none() | positive,
        "steps": st.integers(1, 2**40),
        "minutes": st.none() | positive,
        "seed": st.integers(0, 2**40),
        "device": texts,
        "data": st.fixed_dictionaries(
            {}, optional={"validation": st.floats(0, 1, exclude_max=True), "zca_strength": positive}
        ),
        "evaluate": st.fixed_dictionaries({}, optional={"nets": st.integers(1, 99)}),
        "options": st.dictionaries(
            st.sampled_from([kind.option for kind in KINDS]), options, max_size=3
        ),
    },
)


@settings(deadline=None, max_examples=60)
@given(runs)
def test_a_configuration_survives_its_file(raw: dict[str, Any]) -> None:
    config = resolve(raw, PLUGINS)
    text = to_toml(config)
    again = resolve(tomllib.loads(text), PLUGINS)
    assert again == config
    assert to_toml(again) == text


@settings(deadline=None, max_examples=60)
@given(runs, runs)
def test_merging_with_nothing_or_itself_changes_nothing(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert merge(one, {}) == one
    assert merge(one, one) == one
    merged = merge(one, other)
    assert {
        name: merged[name] for name in other if name not in {"options", "data", "evaluate"}
    } == {name: other[name] for name in other if name not in {"options", "data", "evaluate"}}


@pytest.mark.parametrize(
    ("text", "newer"),
    [
        ("format = 1\n", "before"),  # a run wrote all that it had
        ("", "now"),
    ],
)
def test_an_option_that_an_older_run_lacks_means_what_it_did_then(
    text: str, newer: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    lines = [*(f'{kind} = "alpha"' for kind in ALL), "[options.repr]", "flag = true"]
    path.write_text(text + "\n".join(lines))
    config = resolve(read_settings(path), PLUGINS)
    assert config.options["repr"].newer == newer
    # No options at all were written: another component was chosen since.
    assert config.options["labeler"].newer == "now"
    assert resolve(read_settings(path), PLUGINS) == config


def test_a_file_on_disk_gives_the_same_run(tmp_path: Path) -> None:
    raw = {**ALL, "options": {"algo": {"text": 'quote " and \\ and umlaut \u00e4', "size": "3x4"}}}
    config = resolve(raw, PLUGINS)
    path = tmp_path / "run.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert resolve(read_settings(path), PLUGINS) == config


def test_the_value_of_a_preset_can_be_unset_and_stays_so() -> None:
    raw = {**ALL, "options": {"repr": {"patches": "2x5"}}, "ipc": 0.5}
    config = resolve(merge(raw, parse_overrides(["repr.patches=none", "run.ipc=none"])), PLUGINS)
    assert "patches" not in config.written_options()["repr"]
    assert config.ipc is None
    assert resolve(tomllib.loads(to_toml(config)), PLUGINS) == config

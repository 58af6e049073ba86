"""Advice by marks: the core finds the option that a component means, whatever its name."""

from __future__ import annotations

import pytest
from pydantic import Field

from distill_core.config.advice import (
    at_most,
    blaming_extremes,
    counting,
    in_range,
    lowering,
    ways_to,
)
from distill_core.config.run_config import RunConfig
from registry import (
    ContractError,
    EnvironmentFault,
    InputError,
    OptionError,
    Options,
    about,
)


class Method(Options):
    """Settings of an algorithm with names of its own."""

    crowd: int | None = Field(None, ge=1, **about("images", counts="inner_batch"))
    photos: int = Field(30, ge=1, **about("images", counts="real_batch"))
    batch: int = 3
    taught: bool = Field(False, **about(learns_labels="true"))


class Labels(Options):
    """Settings of a labeler."""

    mode: str = "fixed"
    kind: str = Field("free", **about(fixes_labels="given"))


def test_options_are_found_by_what_they_count() -> None:
    assert counting(Method(), "inner_batch") == ["crowd"]
    assert counting(Method(), "real_batch") == ["photos"]
    assert counting(Labels(), "inner_batch") == []


@pytest.mark.parametrize(
    ("options", "what", "least"),
    [
        (Method(), "inner_batch", 10),
        (Method(crowd=4), "inner_batch", 4),
        (Method(crowd=40), "inner_batch", 10),
        (Method(photos=7), "real_batch", 7),
        (Labels(), "real_batch", 10),
    ],
)
def test_the_least_of_option_and_limit(options: Options, what: str, least: int) -> None:
    assert at_most(options, what, 10) == least


def test_ways_to_an_effect_name_the_options_of_the_chosen_components() -> None:
    chosen = {"repr": "a", "labeler": "b", "orderer": "c", "algo": "d"}
    config = RunConfig(**chosen, options={"labeler": Labels(), "algo": Method()})
    assert ways_to("fixes_labels", config) == ["-o labeler.kind=given"]
    assert ways_to("learns_labels", config) == ["-o algo.taught=true"]
    assert ways_to("whitens", config) == []


def test_what_is_so_already_is_not_advised() -> None:
    chosen = {"repr": "a", "labeler": "b", "orderer": "c", "algo": "d"}
    done = {"labeler": Labels(kind="given"), "algo": Method(taught=True)}
    config = RunConfig(**chosen, options=done)
    assert ways_to("fixes_labels", config) == ways_to("learns_labels", config) == []


def test_a_tiny_number_does_not_take_memory() -> None:
    chosen = {"repr": "a", "labeler": "b", "orderer": "c", "algo": "d"}
    config = RunConfig(**chosen, options={"algo": Method(photos=10**12, crowd=3)})
    assert lowering(config, "usual") == "lower -o algo.photos=1000000000000."
    slow = config.model_copy(update={"minutes": 1e-40, "options": {"algo": Method()}})
    assert lowering(slow, "usual") == "usual"


def test_an_option_far_above_its_default_is_named_where_memory_ends() -> None:
    chosen = {"repr": "a", "labeler": "b", "orderer": "c", "algo": "d"}
    config = RunConfig(**chosen, options={"algo": Method(photos=30_000), "labeler": Labels()})
    assert lowering(config, "use less.", of=["algo"]) == (
        "lower -o algo.photos=30000, or use less."
    )
    for few in (Method(photos=599), Method(photos=30, batch=59)):
        config = RunConfig(**chosen, options={"algo": few})
        assert lowering(config, "use less.", of=["algo"]) == "use less."


def test_an_extreme_option_is_named_before_a_component_is_blamed() -> None:
    chosen = {"repr": "a", "labeler": "b", "orderer": "c", "algo": "d"}
    config = RunConfig(**chosen, options={"algo": Method(photos=10**12)})
    fault = ContractError("component 'a' gives numbers that are not finite.", next="tell somebody.")
    with (
        pytest.raises(OptionError, match=r"with algo\.photos=1000000000000: component") as caught,
        blaming_extremes(config, "algo"),
    ):
        raise fault
    assert caught.value.next == "change -o algo.photos=1000000000000."
    with pytest.raises(ContractError), blaming_extremes(config, "repr"):
        raise fault


def test_an_extreme_option_comes_first_in_the_advice_of_an_error() -> None:
    chosen = {"repr": "a", "labeler": "b", "orderer": "c", "algo": "d"}
    config = RunConfig(**chosen, options={"algo": Method(photos=10**12)})
    odd = "change -o algo.photos=1000000000000, far from any default"
    for error, expected in (
        (
            InputError("expert 0 diverged.", next="lower -o algo.rate."),
            f"{odd}; or lower -o algo.rate.",
        ),
        (InputError("no."), f"{odd}."),
        (InputError("algo.photos is large.", next="lower it."), "lower it."),
        (EnvironmentFault("the disk is full.", next="make room."), "make room."),
    ):
        with pytest.raises(type(error)), in_range(config):
            raise error
        assert error.next == expected
    usual = InputError("no.", next="look.")
    with pytest.raises(InputError), in_range(RunConfig(**chosen)):
        raise usual
    assert usual.next == "look."

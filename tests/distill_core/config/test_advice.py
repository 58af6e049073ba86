"""Advice by marks: the core finds the option that a component means, whatever its name."""

from __future__ import annotations

import pytest
from pydantic import Field

from distill_core.config.advice import at_most, counting, lowering, ways_to
from distill_core.config.run_config import RunConfig
from registry import Options, about


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

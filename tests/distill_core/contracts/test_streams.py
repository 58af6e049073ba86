"""Named streams: equal seeds and names draw equally, others do not, and states can be kept."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from distill_core.contracts.streams import Streams, global_seed, seeded, streams_of_rank

seeds = st.integers(0, 2**40)
names = st.text(min_size=1, max_size=8)


def draw(generator: Generator) -> Tensor:
    return torch.randint(2**40, (4,), generator=generator)


@given(seeds, names)
def test_equal_seed_and_name_draw_equally(seed: int, name: str) -> None:
    assert torch.equal(draw(Streams(seed)[name]), draw(Streams(seed)[name]))
    assert torch.equal(draw(seeded(seed, name)), draw(Streams(seed)[name]))


@given(seeds, seeds, names, names)
def test_another_seed_or_name_draws_otherwise(a: int, b: int, one: str, two: str) -> None:
    same = (a, one) == (b, two)
    assert torch.equal(draw(seeded(a, one)), draw(seeded(b, two))) == same


@given(seeds, st.lists(names, max_size=4))
def test_other_streams_do_not_move_one(seed: int, others: list[str]) -> None:
    busy = Streams(seed)
    for name in others:
        if name != "draw":
            draw(busy[name])
    assert torch.equal(draw(busy["draw"]), draw(Streams(seed)["draw"]))


def test_a_stream_goes_on_and_does_not_begin_again() -> None:
    streams = Streams(0)
    assert not torch.equal(draw(streams["draw"]), draw(streams["draw"]))


@given(seeds, st.lists(names, min_size=1, max_size=4, unique=True))
def test_a_saved_state_goes_on_bit_for_bit(seed: int, used: list[str]) -> None:
    streams = Streams(seed)
    for name in used:
        draw(streams[name])
    state = {name: value.clone() for name, value in streams.state_dict().items()}
    assert sorted(state) == sorted(used)
    expected = [draw(streams[name]) for name in [*used, "unused"]]
    resumed = Streams(seed)
    draw(resumed["forgotten"])
    resumed.load_state_dict(state)
    found = [draw(resumed[name]) for name in [*used, "unused"]]
    assert all(map(torch.equal, expected, found))
    assert "forgotten" not in resumed.state_dict()


def test_several_names_make_one_stream() -> None:
    assert torch.equal(draw(seeded(0, "a", 1)), draw(seeded(0, "a", 1)))
    assert not torch.equal(draw(seeded(0, "a", 1)), draw(seeded(0, "a", 2)))


def test_streams_do_not_touch_the_global_state() -> None:
    before = torch.get_rng_state()
    draw(Streams(0)["draw"])
    assert torch.equal(before, torch.get_rng_state())


def test_global_seed_depends_on_the_generator_alone_and_is_put_back() -> None:
    before = torch.get_rng_state()
    made = []
    for outside in (1, 2):
        torch.manual_seed(outside)
        state = torch.get_rng_state()
        with global_seed(seeded(0, "backbone")):
            made.append(torch.nn.Linear(3, 2).weight.detach())
        assert torch.equal(state, torch.get_rng_state())
    torch.set_rng_state(before)
    assert torch.equal(*made)


def test_global_seed_moves_the_generator_on() -> None:
    generator = seeded(0, "backbone")
    made = []
    for _ in range(2):
        with global_seed(generator):
            made.append(torch.rand(3))
    assert not torch.equal(*made)


def test_global_seed_is_put_back_after_an_error() -> None:
    state = torch.get_rng_state()
    try:
        with global_seed(seeded(0)):
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(state, torch.get_rng_state())


@given(seeds, st.integers(1, 9), st.integers(1, 9))
def test_ranks_draw_apart_and_the_first_as_if_alone(seed: int, rank: int, since: int) -> None:
    alone, other = Streams(seed), streams_of_rank(seed, rank)
    later = streams_of_rank(seed, rank, since=since)
    drawn = [draw(streams["real"]).tolist() for streams in (alone, other, later)]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]
    assert draw(streams_of_rank(seed, 0, since=since)["real"]).tolist() == drawn[0]

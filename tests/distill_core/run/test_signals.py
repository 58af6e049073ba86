from __future__ import annotations

import os
import signal

import pytest

from distill_core.distributed.ranks import RankLostError, Ranks
from distill_core.run.signals import SIGNALS, stop_flag


class Two(Ranks):
    """Rank 0 of 2."""

    size = 2


class Other(Two):
    """Rank 1 of 2."""

    rank = 1


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_flag_for_a_while(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(number)
    with stop_flag() as stop, stop.steps():
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(number) is before
    said = "ending after this outer step; Ctrl-C again ends at once\n"
    assert capsys.readouterr().err == said


def test_the_second_ctrl_c_ends_at_once() -> None:
    with stop_flag() as stop, stop.steps():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert stop()


def test_a_terminal_that_closes_ends_a_run_unless_nohup_started_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_flag() as stop, stop.steps():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_is_repeated_does_not_disturb_the_end() -> None:
    with stop_flag():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGXCPU)
        os.kill(os.getpid(), signal.SIGXCPU)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("ranks", "said"), [(Two(), "ending after this outer step\n"), (Other(), "")]
)
def test_of_several_the_first_says_so(
    ranks: Ranks, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with stop_flag(ranks) as stop, stop.steps():
        os.kill(os.getpid(), signal.SIGINT)
    assert stop()
    assert capsys.readouterr().err == said


def test_a_process_that_lost_another_has_time_to_say_so() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(RankLostError), stop_flag(Two()):
            raise RankLostError("gone")
        os.kill(os.getpid(), signal.SIGTERM)  # of the launcher, which saw it, too
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_outside_the_steps_the_first_signal_ends_at_once(number: int) -> None:
    with stop_flag() as stop:
        with stop.steps():
            pass
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)

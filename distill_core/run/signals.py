"""Signals: the first ends a run after its outer step, a second Ctrl-C ends it at once.

Outside outer steps (loading, experts, evaluation, writing) nothing has to be finished: what is
saved stays, and the first signal ends the run. With several processes, each records its own
signals, and the outer loop decides for all. Their launcher handles a second Ctrl-C itself.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from distill_core.distributed.ranks import SINGLE_PROCESS, RankLostError, Ranks
from distill_core.system.screen import plain_console

# Ctrl-C; the signal that ends a job; a terminal that closes; those that clusters send shortly
# before a time limit; and that of a limit of CPU time.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


class Stop:
    """Becomes true at the first signal.

    Args:
        ranks: the processes of the run; rank 0 prints that the run is ending.

    Attributes:
        stepping: an outer step is running, and has to be finished first.
    """

    def __init__(self, ranks: Ranks = SINGLE_PROCESS) -> None:
        self.asked = False
        self.stepping = False
        self.ranks = ranks

    def __call__(self) -> bool:
        """Return whether a signal has come."""
        return self.asked

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Record a signal.

        Raises:
            KeyboardInterrupt: there is no step to finish, or it is a second Ctrl-C.
        """
        del frame
        again, self.asked = self.asked, True
        if again and number != signal.SIGINT:  # the same wish, as a limit of CPU time repeats it
            return
        if again or not self.stepping:
            raise KeyboardInterrupt
        if self.ranks.is_main:
            hint = "; Ctrl-C again ends at once" if self.ranks.size == 1 else ""
            plain_console(stderr=True).print(f"ending after this outer step{hint}")

    @contextmanager
    def steps(self) -> Iterator[None]:
        """Inside this context, the first signal waits for the end of the outer step."""
        self.stepping = True
        try:
            yield
        finally:
            self.stepping = False


@contextmanager
def stop_flag(ranks: Ranks = SINGLE_PROCESS) -> Iterator[Stop]:
    """Turn the signals that end a run into a flag inside this context.

    Only the main thread can. In another thread, as in some notebook servers, nothing changes.
    SIGHUP stays ignored where it is, as `nohup` leaves it.
    """
    stop = Stop(ranks)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {number: signal.signal(number, stop.handle) for number in SIGNALS if _ends(number)}
    try:
        yield stop
    except RankLostError:
        # The launcher asks all processes to end when one has died. This one is about to end, but
        # has to print first where the state is.
        old[signal.SIGTERM] = signal.SIG_IGN
        raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _ends(number: signal.Signals) -> bool:
    return number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN

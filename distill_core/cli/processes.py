"""A command in one of several processes: rank 0 prints, and all end with its exit code."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from distill_core.cli.errors import FAULT, Display, run_safely
from distill_core.distributed.launch import EXIT_CODE_FILE, leave_exit_code
from registry import OptionError

if TYPE_CHECKING:
    from distill_core.distributed.ranks import Ranks


def as_rank(ranks: Ranks, call: Callable[[], int], display: Display) -> int:
    """Call in a process that a launcher started.

    Args:
        ranks: the processes that make the same call.
        call: the command.
        display: how errors are shown.

    Returns:
        Rank 0's exit code, on every rank. Rank 0 reports what goes wrong on another rank, or that
        rank does if rank 0 is missing.
    """
    if ranks.is_main:
        code = run_safely(call, display)
        leave_exit_code(code)
        return ranks.end(code)
    try:
        code = call()
    except BaseException as error:
        code = FAULT if ranks.hand_over(error) else run_safely(partial(_throw, error), display)
    return ranks.end(code)


def _throw(error: BaseException) -> int:
    raise error


def check_procs(procs: int | None, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse `--procs` in a process that another launcher started.

    Raises:
        OptionError: it was given.
    """
    if procs is not None and EXIT_CODE_FILE not in environment:
        raise OptionError(
            f"--procs {procs} was given to a process that a launcher started.",
            expected="either --procs or a launcher such as torchrun.",
            next="leave --procs out; the launcher says how many processes there are.",
        )

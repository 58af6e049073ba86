"""How errors end: three lines for the user, and an exit code.

0 done, 2 a user's mistake, 130 interrupted, 1 a fault of the machine, a plugin or distill.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click

from distill_core.hookspecs import GROUP
from distill_core.system.out_of_memory import is_out_of_memory, out_of_memory
from registry import EnvironmentFault, ExplainedError, OptionError, UnknownNameError, visible
from registry.blame import culprit

FAULT, MISTAKE, INTERRUPTED = 1, 2, 130
BATCH_OF_ONE = "Expected more than 1 value per channel when training"  # PyTorch's; no torch here


@dataclass
class Display:
    """How errors are shown; filled while the command line is parsed.

    Attributes:
        traceback: print the traceback before the three lines.
        arguments: the command line, for a command that starts copies of itself.
    """

    traceback: bool = False
    arguments: tuple[str, ...] = ()


def run_safely(call: Callable[[], object], display: Display) -> int:
    """Call, and turn any exception into three lines on stderr and an exit code.

    Args:
        call: what to do; an integer that it returns is the exit code.
        display: whether to show tracebacks; read after the call.
    """
    try:
        result = call()
    except (KeyboardInterrupt, click.Abort) as error:
        # click turns a KeyboardInterrupt into an Abort; its text, if any, says how to continue.
        click.echo(f"Interrupted. {error.__cause__ or error}".rstrip(), err=True)
        return INTERRUPTED
    except BaseException as error:
        if _by_click(error):
            raise
        if display.traceback:
            click.echo("".join(traceback.format_exception(error)), err=True)
        click.echo(visible(str(explain(error)), but="\n\t"), err=True)
        return exit_code(error)
    return result if isinstance(result, int) else 0


def _by_click(error: BaseException) -> bool:
    """Return whether click itself ends the process, as after a shell's question for completions."""
    if not isinstance(error, SystemExit):
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("click.")


def exit_code(error: BaseException) -> int:
    """Return the exit code for an exception."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    explained = isinstance(error, ExplainedError) and not isinstance(error, EnvironmentFault)
    if explained or str(error).startswith(BATCH_OF_ONE):
        return MISTAKE
    return FAULT


def explain(error: BaseException) -> ExplainedError:
    """Say in three parts what an exception means."""
    if isinstance(error, ExplainedError):
        return error
    if isinstance(error, click.UsageError):
        return _explain_usage(error)
    if isinstance(error, click.ClickException):
        return ExplainedError(
            _sentence(error.format_message()), next="`distill --help` shows the commands."
        )
    return _explain_fault(error)


def _explain_usage(error: click.UsageError) -> ExplainedError:
    context = error.ctx
    if context is None:
        return OptionError(
            _sentence(error.format_message()),
            expected="options as the command's --help shows them.",
            next="`distill COMMAND --help` explains what a command takes.",
        )
    next_step = f"`{context.command_path} --help` explains what it takes."
    if isinstance(error, click.NoSuchOption):
        parameters = context.command.get_params(context)
        known = [max(each.opts, key=len) for each in parameters if isinstance(each, click.Option)]
        return UnknownNameError("option", error.option_name, known=known, next=next_step)
    expected = f"`{context.get_usage().removeprefix('Usage: ')}`."
    if isinstance(error, click.BadParameter) and error.param is not None:
        record = error.param.get_help_record(context)
        if record and record[1]:
            help_text = record[1].removesuffix("[required]")
            expected = _sentence(" ".join(f"{record[0]}: {help_text}".split()))
    return OptionError(_sentence(error.format_message()), expected=expected, next=next_step)


def _explain_fault(error: BaseException) -> ExplainedError:
    if is_out_of_memory(error):
        return out_of_memory(error)
    if str(error).startswith(BATCH_OF_ONE):
        from distill_core.training.batch_of_one import of_one

        return of_one("one of them")
    text, *_ = _of_pydantic(error) or str(error).splitlines() or [""]
    raised = f"{type(error).__name__}: {text}" if text else type(error).__name__
    found = culprit(error, GROUP, but="distill_core")
    who = next(_noted(error, "raised by "), found and f"plugin {found.provider}")
    then = f"use --traceback to see where it happened{{}}. {' '.join(_noted(error, 'next: '))}"
    if who:
        place = found.place if found else ""
        if isinstance(error, SyntaxError) and error.filename:
            place = f"{error.filename}, line {error.lineno}"
        return ExplainedError(
            f"{who} raised {_stopped(f'{raised} (in {place})' if place else raised)}",
            expected="no error from a component; `distill_core.testing` checks the contract.",
            next=then.format(", and tell the author of the plugin").rstrip(),
        )
    if isinstance(error, OSError):
        return EnvironmentFault(
            f"the system refused something: {_stopped(raised)}",
            expected="room, permission and a connection where they are needed.",
            next=f"fix that and try again; {then.format('')}".rstrip(),
        )
    return ExplainedError(
        f"distill itself failed with {_stopped(raised)}",
        expected="no such error, whatever you typed: this is a fault of distill.",
        next=then.format(", and report it").rstrip(),
    )


def _of_pydantic(error: BaseException) -> list[str]:
    """Return the faults that pydantic found, each with its field, as one line; none of others."""
    from pydantic import ValidationError

    found = error.errors() if isinstance(error, ValidationError) else []
    faults = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found)
    return ["; ".join(faults)] if found else []


def _noted(error: BaseException, start: str) -> Iterator[str]:
    """Yield the rest of each note of an error that starts like this."""
    for note in getattr(error, "__notes__", []):
        if note.startswith(start):
            yield note.removeprefix(start)


def _sentence(text: str) -> str:
    """Start with a lower-case word, unless it is a name, and end with a full stop."""
    text = " ".join(text.split())
    if text[:1].isupper() and text[1:2].islower() and not text.split(":")[0].endswith("Error"):
        text = text[0].lower() + text[1:]
    return _stopped(text)


def _stopped(text: str) -> str:
    """End with a full stop."""
    return text if text.endswith((".", "!", "?")) else f"{text}."

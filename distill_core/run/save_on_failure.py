"""When a run fails: the state is saved, and the message says how to resume.

The state before the failed outer step is still in memory unless the update had begun. It is saved,
so that resuming repeats the step exactly. If even that fails, the last checkpoint remains.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from traceback import clear_frames

from distill_core.config.advice import at_most, counting, lowering
from distill_core.config.resume_command import resume_command
from distill_core.contracts.algorithm import DivergenceError
from distill_core.distributed.ranks import RankLostError
from distill_core.hookspecs import GROUP
from distill_core.run.assemble import Assembly
from distill_core.run.loop import OuterLoop
from distill_core.system.out_of_memory import OutOfMemory, is_out_of_memory, out_of_memory
from distill_core.system.process import release_memory
from registry import EnvironmentFault, ExplainedError
from registry.blame import culprit


@contextmanager
def save_on_failure(loop: OuterLoop, *, judging: bool = False) -> Iterator[None]:
    """Save the state when the run fails, and say where it is and how to resume.

    Anything but Ctrl-C is a failure, `sys.exit` in a plugin included. An error that is not
    explained yet passes as it is, with a note.

    Raises:
        ExplainedError: of the kind of the error; its next step says how to resume.
    """
    try:
        yield
    except BaseException as error:
        found = explained(error, loop, judging=judging)
        machine = isinstance(found, EnvironmentFault)
        if isinstance(error, KeyboardInterrupt) or (loop.step == 0 and not machine):
            raise
        then = _saved(error, found, loop)
        if found is None:
            error.add_note(f"next: {then}")
            raise
        found.next = f"{found.next} {then}" if found.next else then[0].lower() + then[1:]
        if found is error:
            raise
        raise found from error


def _saved(error: BaseException, found: ExplainedError | None, loop: OuterLoop) -> str:
    """Save the state, and return a sentence on where it is and how to go on."""
    if isinstance(found, OutOfMemory):  # saving needs memory, and the failed frames hold much
        clear_frames(error.__traceback__)
        release_memory()
    # A directory that has vanished, perhaps with its disk, is not created again elsewhere.
    if not isinstance(error, FileNotFoundError) or loop.run_dir.exists():
        with suppress(Exception):  # the disk that is full is still full; the first error is told
            loop.rescue(together=isinstance(error, DivergenceError))
    state = "There is no saved state yet"
    if not loop.ranks.is_main:  # this rank speaks for one that does not answer
        state = "What rank 0 has saved is kept"
    if loop.saved_step is not None:
        state = f"The state is saved at outer step {loop.saved_step}"
    return f"{state}; go on with {_how(found, loop)}."


def explained(
    error: BaseException, loop: OuterLoop, *, judging: bool = False
) -> ExplainedError | None:
    """Return what failed if it is explained, or was the machine or the numbers; else None."""
    if is_out_of_memory(error):
        return _without_memory(error, loop, judging=judging)
    if isinstance(error, RankLostError):
        return RankLostError(error.what, expected=error.expected)
    if isinstance(error, ExplainedError):
        return error
    if isinstance(error, OSError) and not culprit(error, GROUP, but="distill_core"):
        return EnvironmentFault(
            f"the system refused something: {error}.",
            expected="a run directory that is there and can be written, with room.",
            next="fix that first.",
        )
    return None


def _without_memory(error: BaseException, loop: OuterLoop, *, judging: bool) -> OutOfMemory:
    """Say what lowers the memory of what failed: networks that judge take no images in parts."""
    if judging:
        return out_of_memory(error, next="free memory, or choose another --device.")
    if loop.owes_validation:
        return out_of_memory(
            error,
            expected=f"room for the validation of outer step {loop.step}.",
            next="free memory, or validate no more with -o evaluate.every=0.",
        )
    return out_of_memory(
        error,
        expected=f"room for an outer step with {loop.assembly.engine.images()}.",
        next=lowering(
            loop.assembly.config, f"{how_to_lower(loop.assembly)}.", of=["repr", "backbone"]
        ),
    )


def _how(found: ExplainedError | None, loop: OuterLoop) -> str:
    how = f"`{resume_command(loop.run_dir)}`"
    if isinstance(found, RankLostError):
        how += ", with any number of processes"
    elif isinstance(found, DivergenceError):
        how += " with --on-divergence halve-lr"
    elif isinstance(found, OutOfMemory):
        how += " and such an option"
    return how


def how_to_lower(assembly: Assembly) -> str:
    """Return which options lower the memory of an outer step, with their values."""
    engine, algo = assembly.engine, assembly.config.options["algo"]
    items = len(assembly.synthetic)
    inner = at_most(algo, "inner_batch", items)
    real = at_most(algo, "real_batch", engine.real_chunk)
    at_once = min(engine.microbatch or inner, inner)
    ways: dict[str, int | str] = {}
    if engine.activation_cache:
        ways["engine.activation_cache"] = "none"
    ways["engine.real_chunk"] = min(real, len(assembly.real.train)) // 2
    if engine.splits:
        ways["engine.microbatch"] = at_once // 2
    else:  # not when resuming: it changes what is computed
        ways |= {f"algo.{name}": inner // 2 for name in counting(algo, "inner_batch")}
    found = [f"-o {name}={value}" for name, value in ways.items() if value]
    if not found:
        return "nothing is left to take in parts: choose a smaller -o backbone.width"
    return f"lower it with {' and '.join(found)}, or let --max-memory choose"

"""Absurd numbers for every number option of every part: what a run of them comes to.

    python benchmarks/faults/absurd.py [--only repr algo.kip ...] [--seconds 20] [--gigabytes 3]

Each option of each component, and of the core's sections, gets each of `VALUES` in a tiny run of
its own. Such a run passes if it ends with a result, or with a sentence that names the option or
says that numbers diverge, within the time and the memory. What does not pass is listed, one line
each. Huge numbers of steps, epochs and networks are left out: that work is asked for.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from distill_core.cli.errors import explain
from distill_core.commands.judges import check_outline
from distill_core.config.advice import in_range
from distill_core.config.discovery import discover
from distill_core.config.run_config import RunConfig, resolve
from distill_core.config.sections import SECTIONS
from distill_core.config.settings import merge, parse_overrides
from distill_core.contracts.algorithm import DivergenceError
from distill_core.evaluation.judge import judge
from distill_core.hookspecs import KINDS
from distill_core.run.assemble import assemble
from distill_core.run.loop import OuterLoop
from distill_core.run.save_on_failure import save_on_failure
from distill_core.run.validation import candidate_of, evaluator_of
from registry import ExplainedError, OptionError

HUGE = ("100000000", "10000000000000000000")
VALUES = ("0", "-1", "1e38", "1e-38", "1e300", "nan", "inf", "1", *HUGE)
WORK = (
    "steps",
    "epochs",
    "networks",
    "outer steps",
    "updates",
    "starts",
)  # units of what is just done
TINY: dict[str, Any] = {
    "repr": "images",
    "labeler": "onehot",
    "orderer": "identity",
    "algo": "dm",
    "dataset": "shapes",
    "steps": 2,
    "evaluate": {"nets": 1, "steps": 2, "full_steps": 2, "every_nets": 1},
    "options": {
        "dataset": {"classes": 4, "size": 8, "train_per_class": 4, "test_per_class": 2},
        "backbone": {"width": 4, "depth": 1},
    },
}
QUICK: dict[str, dict[str, Any]] = {
    "algo.ratbptt": {"window": 2, "total": 3, "batch": 4, "real_batch": 8},
    "algo.bptt": {"steps": 2, "real_per_class": 2},
    "algo.dd": {"steps": 2},
    "algo.mtt": {"syn_steps": 2, "experts": 1},
    "algo.ftd": {"syn_steps": 2, "experts": 1},
    "algo.tesla": {"syn_steps": 2, "experts": 1},
    "algo.frepo": {"pool": 1},
    "algo.rcig": {"pool": 1, "inner_steps": 2, "inverse_steps": 2, "most_updates": 1},
    "repr.ddif": {"fit_steps": 2, "width": 2, "hidden": 1},
    "repr.poster": {"patches": "2x3"},
    "repr.basis": {"bases": 2},
    "orderer.poco": {"similarity": "image"},
    "orderer.qap": {"similarity": "image"},
}
LEFT_OUT = {  # what a number is asked to do there is done, however long it takes
    *("run.steps", "run.minutes", "run.seed", "run.snapshots", "run.threads", "run.procs"),
    *("run.checkpoint_minutes", "run.rank_timeout_minutes"),
}
NAMES = {kind.option for kind in KINDS}


def cases(only: list[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield part, as "algo.dm"; option, as "algo.pixel_lr"; and whether it counts work."""
    plugins = discover()
    for kind in KINDS:
        for name in plugins[kind.name].names():
            model = plugins[kind.name][name].resolve_options()
            if any(field.is_required() for field in model.model_fields.values()):
                continue  # it needs files
            yield from _of(f"{kind.option}.{name}", kind.option, model, only)
    for name in SECTIONS:
        yield from _of(name, name, RunConfig.model_fields[name].annotation, only)
    yield from _of("run", "run", RunConfig, only)


def _of(part: str, prefix: str, model: Any, only: list[str]) -> Iterator[tuple[str, str, bool]]:
    if only and not any(part == each or part.startswith(f"{each}.") for each in only):
        return
    for name, field in model.model_fields.items():
        option = f"{prefix}.{name}"
        words = str(field.annotation)
        number = re.search(r"\b(int|float)\b", words)
        if number and option not in LEFT_OUT and name not in SECTIONS:
            extra = field.json_schema_extra
            yield part, option, isinstance(extra, dict) and extra.get("unit") in WORK


def settings(part: str, option: str, value: str) -> dict[str, Any]:
    """Return the settings of a tiny run with one option changed."""
    kind, _, name = part.partition(".")
    chosen: dict[str, Any] = {}
    if kind in NAMES and name:
        chosen = {kind: name, "options": {kind: QUICK.get(part, {})}}
        if kind == "repr" and name == "poster":
            chosen["labeler"] = "poddl"
        if part == "repr.coreset":
            chosen["algo"] = "none"
        if part == "repr.speed":
            chosen["ipc"] = 10
        if kind in {"labeler", "backbone"}:
            chosen["algo"] = "dd" if kind == "labeler" else "dm"
            chosen["options"].setdefault("algo", QUICK["algo.dd"] if kind == "labeler" else {})
        base = {**TINY, "options": {k: v for k, v in TINY["options"].items() if k != kind}}
        if kind in {"dataset", "backbone"} and name in {"shapes", "convnet"}:
            base = TINY
    else:
        base = TINY
    return merge(merge(base, chosen), parse_overrides([f"{option}={value}"]))


def outcome(part: str, option: str, value: str) -> tuple[str, str]:
    """Run it; return a word and, where it did not pass, what is to be seen."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _run(resolve(settings(part, option, value), PLUGINS), Path(folder))
        except OptionError as error:
            return _named(error, option, "refused")
        except ExplainedError as error:
            if isinstance(error, DivergenceError):
                return "diverged", ""
            return _named(error, option, "explained")
        except TimeoutError:
            return "FAILED", "took too long without a word"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            found = explain(error)
            return _named(found, option, "at the end" if "itself" not in found.what else "FAULT")
    return "ran", ""


def _run(config: RunConfig, folder: Path) -> None:
    """Distill and judge, as the command does, without the files and pictures of a result."""
    with in_range(config):
        check_outline(config, PLUGINS)
        assembly = assemble(config, PLUGINS)
        assembly.algorithm.prepare(lambda line: None)
        loop = OuterLoop(assembly, folder)
        with save_on_failure(loop):
            loop.run()
        judge(candidate_of(loop.result, step=loop.step), evaluator_of(loop.result), config.evaluate)


def _named(error: ExplainedError, option: str, word: str) -> tuple[str, str]:
    text = " ".join(str(error).split())
    if word != "FAULT" and (option in text or option.rpartition(".")[2] in text):
        return word, ""
    return "FAILED", f"{word}: {text[:400]}"


def _late(*_: Any) -> None:
    raise TimeoutError


PLUGINS = discover()


def main() -> int:
    """Try all; print what did not pass, and counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="parts, as repr or algo.dm")
    parser.add_argument("--seconds", type=int, default=20, help="of the processor, for one run")
    parser.add_argument("--gigabytes", type=float, default=6.0, help="address space of the process")
    parser.add_argument("--values", nargs="*", default=VALUES)
    args = parser.parse_args()
    for part in args.only:
        if next(cases([part]), None) is None:
            parser.error(f"no number is an option of {part}")
    faulthandler.enable()
    limit = int(args.gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGPROF, _late)
    counts: Counter[str] = Counter()
    for part, option, is_work in cases(args.only):
        for value in args.values:
            if is_work and value in HUGE:
                continue
            begin = time.monotonic()
            signal.setitimer(signal.ITIMER_PROF, args.seconds)
            try:
                word, seen = outcome(part, option, value)
            except TimeoutError:
                word, seen = "FAILED", "took too long without a word"
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            counts[word] += 1
            if seen:
                spent = time.monotonic() - begin
                print(f"{part:14} {option}={value}  {spent:.1f} s  {seen}", flush=True)
    print(", ".join(f"{count} {word}" for word, count in sorted(counts.items())))
    return int(counts["FAILED"] > 0)


if __name__ == "__main__":
    sys.exit(main())

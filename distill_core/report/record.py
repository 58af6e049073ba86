"""The record of a run, read from its directory without loading tensors.

Files may be missing or damaged, since runs are copied, stopped and edited. What cannot be used
raises an `InputError` that gives the reason in one line.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from distill_core.artefact.contents import CONFIG, EVALUATION, MANIFEST, METRICS
from distill_core.artefact.evaluations import read_evaluations
from distill_core.artefact.last_set import current, read_set
from distill_core.artefact.manifest import read_manifest
from distill_core.artefact.storage import Storage
from distill_core.config.data_name import data_name
from distill_core.config.resume_command import resume_command
from distill_core.evaluation.by_class import ByClass
from distill_core.run.directory import settings_of
from distill_core.system.files import objects_of
from distill_core.system.stamps import file_digest
from distill_core.system.units import counted
from registry import InputError

TABLES = ("versions", "hardware", "algorithm_notes", "class_order_notes")
WHAT = ("distilled", "random", "random_bytes", "full")
USUAL = ("distilled", "random", "full")


@dataclass(frozen=True)
class RecordedAccuracy:
    """Mean and sample deviation of fresh networks, 0 to 1; one network has no deviation."""

    mean: float
    std: float | None
    nets: int

    @staticmethod
    def of(result: Mapping[str, Any]) -> RecordedAccuracy:
        """Read what `evaluate.Result.as_dict` wrote."""
        std = result.get("std")
        nets = len(result["accuracies"])
        return RecordedAccuracy(
            _finite(result["mean"]), None if std is None else _finite(std), nets
        )

    def __str__(self) -> str:
        deviation = "" if self.std is None else f" +- {100 * self.std:.1f}"
        return f"{100 * self.mean:.1f}{deviation}"


@dataclass(frozen=True)
class Judgement:
    """Accuracies of fresh networks of one backbone.

    Attributes:
        name: the backbone, such as "timm:resnet18".
        backbone: the name, width where it has one, and the number of networks.
        results: by `WHAT`; the controls may be missing.
        notes: further facts, each with the result that it is about.
    """

    name: str
    backbone: str
    results: Mapping[str, RecordedAccuracy]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """A run directory that has a result.

    Attributes:
        path: the directory.
        config: run.toml.
        manifest: manifest.json.
        judgements: the verdict of the run itself, then those of `distill evaluate`, oldest first.
        by_class: of the run's own verdict, by `WHAT`; earlier versions did not record it.
        edited: run.toml is not the one that the result was saved with.
    """

    path: Path
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    judgements: tuple[Judgement, ...]
    by_class: Mapping[str, ByClass] = field(default_factory=dict)
    edited: bool = False

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.path.resolve().name

    @property
    def data_name(self) -> str:
        """What the data are called."""
        options = self.config.get("options", {}).get("dataset", {})
        return data_name({"name": self.config.get("dataset", "digits"), "options": options})

    @property
    def verdict(self) -> Judgement:
        """The newest judgement by the run's own kind of backbone, or else the newest of all."""
        own = _named(self.manifest["components"]["backbone"])
        return next(
            (each for each in reversed(self.judgements) if each.name == own), self.judgements[-1]
        )

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl without damaged ones; empty if there is no file."""
        return list(objects_of(self.path / METRICS))


def columns_of(found: Iterable[Container[str]]) -> list[str]:
    """Return the training sets to show of some results: the usual ones, and those that are there.

    >>> columns_of([{"distilled"}, {"distilled", "random", "random_bytes"}])
    ['distilled', 'random', 'random_bytes', 'full']
    """
    every = list(found)
    return [what for what in WHAT if what in USUAL or any(what in each for each in every)]


def read_run(path: Path) -> RunRecord:
    """Read a run directory.

    Raises:
        InputError: it is not a run, is damaged, or has no accuracy yet.
    """
    return read_set(path, lambda check: _read_run(path, check))


def _read_run(path: Path, check: Callable[[], None]) -> RunRecord:
    last_set = current(path)
    config = settings_of(last_set)
    if not (path / MANIFEST).exists():
        raise _unusable(path, f"it has no {MANIFEST} yet")
    manifest = read_manifest(path)
    judged = []
    try:
        chosen = manifest["components"]["backbone"]
        if manifest["results"]:
            judged.append(_judgement(_named(chosen), chosen["options"], manifest["results"]))
        for each in read_evaluations(path, manifest["outer_steps"]):
            settings = each.settings
            judged.append(_judgement(settings["backbone"], settings["options"], each.results))
        _check(manifest)
        by_class = _by_class(manifest["results"])
        listed = manifest.get("files", {}).get(CONFIG)
        edited = listed not in (None, file_digest(last_set / CONFIG))
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise _damaged(path, f"{MANIFEST} or {EVALUATION} is damaged: {error!r}") from None
    check()
    if not judged:
        raise _unusable(path, f"unfinished: {manifest['outer_steps']} outer steps, not judged yet")
    return RunRecord(path, config, manifest, tuple(judged), by_class, edited)


def _judgement(name: str, options: Mapping[str, Any], results: Mapping[str, Any]) -> Judgement:
    found = {what: RecordedAccuracy.of(results[what]) for what in WHAT if what in results}
    width = f" {options['width']}" if "width" in options else ""
    nets = found["distilled"].nets
    shown = f"{name}{width}, {counted(nets, 'net')}"
    notes = [f"{what}: {note}" for what in found for note in results[what].get("notes", ())]
    return Judgement(name, shown, found, tuple(notes))


def _named(backbone: Mapping[str, Any]) -> str:
    """Return the whole name of a network, such as "timm:resnet18"; once only a part was written."""
    return str(backbone.get("named", backbone["name"]))


def _by_class(results: Mapping[str, Any]) -> dict[str, ByClass]:
    found = {}
    for what in WHAT:
        if rows := results.get(what, {}).get("by_class"):
            found[what] = ByClass.from_list(rows)
            for number in (*found[what].images, *found[what].accuracies):
                _finite(0 if number is None else number)
    return found


def _check(manifest: Mapping[str, Any]) -> None:
    """Refuse numbers and tables that a run cannot have written."""
    budget, steps = manifest["budget"], manifest["outer_steps"]
    numbers = [manifest["seconds"], steps, *(budget[n] for n in ("ipc", "pixels", "label_numbers"))]
    if manifest.get("peak_memory") is not None:
        numbers.append(manifest["peak_memory"])
    for value in numbers:
        if isinstance(value, str | bool) or _finite(value) < 0:
            raise ValueError(f"{value!r} is not a number of a run")
    Storage.read(manifest.get("storage"))
    for name in TABLES:
        if not isinstance(manifest.get(name, {}), dict):
            raise TypeError(f"{name} is not a table")
    commands = manifest.get("commands", [])
    if not isinstance(commands, list) or not all(isinstance(words, list) for words in commands):
        raise TypeError("commands are not lists of words")
    notices = manifest.get("notices", [])
    if not isinstance(notices, list) or not all({"what", "next"} <= set(each) for each in notices):
        raise TypeError("notices are not what a run writes")


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


def _unusable(path: Path, why: str) -> InputError:
    return InputError(
        f"{path}: {why}.",
        expected="the directory of a finished run.",
        next=f"let it finish with `{resume_command(path)}`, or judge it with "
        f"`{shlex.join(['distill', 'evaluate', str(path)])}`.",
    )


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"{path}: {why}.",
        expected="files that distill wrote.",
        next=f"restore it from a copy; files in {EVALUATION} may also be deleted, and made again "
        "with `distill evaluate`.",
    )

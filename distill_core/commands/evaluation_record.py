"""What `distill evaluate` has found of a run, and where it is written: `evaluation/` in its folder.

`artefact/evaluations.py` reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_core.artefact.contents import EVALUATION, METRICS
from distill_core.artefact.storage import Storage
from distill_core.config.run_config import RunConfig
from distill_core.evaluation.evaluate import Result
from distill_core.evaluation.scores import Score
from distill_core.system.files import append_line, part_of, write_atomically
from distill_core.system.plain_files import check_folder
from registry import EnvironmentFault

LONGEST_ROWS = 120  # characters of a file's name for its rows


@dataclass(frozen=True)
class CrossEvaluation:
    """The results, for each row.

    Attributes:
        results: "distilled", "random", "random_bytes" where it is compared by bytes, and "full".
        scores: the requested scores of DD-Ranking; see `measure_scores`.
        engines: how the networks were trained, kernels or autograd, and why.
        storage: what the judged set stores; None where the run has just said it.
    """

    results: dict[str, dict[str, Result]]
    scores: dict[str, dict[str, Score]]
    engines: dict[str, str]
    storage: Storage | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and text; scores only if they were requested."""
        found: dict[str, Any] = {"engines": self.engines, "results": _plain(self.results)}
        if self.storage:
            found["storage"] = self.storage.as_dict()
        if self.scores:
            found["scores"] = _plain(self.scores)
        return found


class NotKeptError(EnvironmentFault):
    """An evaluation that could not be written: a disk may fill while networks are trained.

    Attributes:
        found: the evaluation, which took long and is all that is left of it.
    """

    def __init__(self, fault: EnvironmentFault, found: CrossEvaluation) -> None:
        super().__init__(
            f"the evaluation could not be kept: {fault.what}",
            expected=fault.expected,
            next="note the accuracies, make room, and evaluate again if reports are to have them.",
        )
        self.found = found


def _plain(table: Mapping[str, Mapping[str, Result | Score]]) -> dict[str, dict[str, Any]]:
    return {
        row: {name: each.as_dict() for name, each in columns.items()}
        for row, columns in table.items()
    }


def check_place(run_dir: Path) -> None:
    """Refuse a run whose folder cannot be written, before networks are trained for it.

    Raises:
        EnvironmentFault: the machine refuses.
        InputError: the folder for evaluations is a link or a file.
    """
    trial = part_of(check_folder(run_dir / EVALUATION) / "trial")
    try:
        write_atomically(trial, bytes(4096))
        trial.unlink()
    except EnvironmentFault as fault:
        raise EnvironmentFault(
            f"{run_dir} cannot keep an evaluation: {fault.what}",
            expected=fault.expected,
            next=f"make room or give permission, or evaluate a copy (cp -rL {run_dir} COPY).",
        ) from None


def record(
    run_dir: Path,
    configs: Mapping[str, RunConfig],
    found: CrossEvaluation,
    metrics: Collection[str],
    step: int,
) -> None:
    """Write evaluation/NAME.json, whose name is the same for the same settings, and one line.

    Args:
        run_dir: the run.
        configs: by row.
        found: by row, too.
        metrics: scores that were asked for.
        step: outer steps of the run.
    """
    settings = {
        row: {
            "backbone": config.named("backbone"),
            "options": config.component("backbone")["options"],
            "evaluate": config.evaluate.model_dump(mode="json", exclude={"backbones"}),
        }
        for row, config in configs.items()
    }
    body = {"outer_steps": step, "settings": settings, **found.as_dict()}
    # Evaluations without scores keep the names that they had before there were scores.
    asked = [step, settings, *([sorted(metrics)] if metrics else [])]
    key = json.dumps(asked, sort_keys=True).encode()
    protocol_name = next(iter(configs.values())).evaluate.protocol
    rows = "-".join(configs).replace(":", "-")[:LONGEST_ROWS]
    name = "-".join((rows, protocol_name, hashlib.sha256(key).hexdigest()[:8]))
    path = check_folder(run_dir / EVALUATION) / f"{name}.json"
    write_atomically(path, json.dumps(body, indent=1).encode())
    means = {
        row: {what: result.mean for what, result in columns.items()}
        for row, columns in found.results.items()
    }
    line = {"kind": "cross evaluation", "step": step, "file": path.name, "means": means}
    append_line(run_dir / METRICS, json.dumps(line))

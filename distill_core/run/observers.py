"""Observers of a run: the metrics file, TensorBoard and snapshots. They change nothing."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_core.artefact.contents import SNAPSHOTS
from distill_core.artefact.pictures import sheet, to_bytes, to_image, to_png, unwhitened_canvases
from distill_core.config.run_config import RunConfig
from distill_core.hookspecs import BY_OPTION
from distill_core.run.assemble import Assembly
from distill_core.system.files import append_line, objects_of, parse_json, write_atomically
from distill_core.system.plain_files import check_folder, check_plain, lines_of

STEP = re.compile(r"step_([0-9]+)")  # the names of pictures, without their endings


class MetricsFile:
    """Appends one JSON line for every outer step and every evaluation.

    Args:
        path: metrics.jsonl of a run.
        step: the step that the run resumes from. Later lines, written after its last checkpoint,
            are dropped, since those steps are repeated.
    """

    def __init__(self, path: Path, *, step: int = 0) -> None:
        self.path = path
        self._drop_after(step)

    def _drop_after(self, step: int) -> None:
        if not self.path.exists():
            return
        # Damaged lines are dropped, too.
        lines = [line + b"\n" for line in lines_of(self.path, most=None) if _is_before(line, step)]
        write_atomically(self.path, b"".join(lines))

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield what was written, without damaged lines."""
        return objects_of(self.path, most=None)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        append_line(self.path, json.dumps(line))

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step."""
        self.write({"kind": "step", "step": step, **metrics})

    def after_validation(self, step: int, accuracies: Sequence[float]) -> None:
        """Write the mean validation accuracy, and that of each network."""
        mean = statistics.fmean(accuracies)
        line = {"kind": "validation", "step": step, "accuracy": mean}
        self.write({**line, "accuracies": list(accuracies)})

    def after_going_back(self, step: int, what: str) -> None:
        """Drop the lines of the steps that are repeated, and write why."""
        self._drop_after(step)
        self.write({"kind": "divergence", "step": step, "what": what})


def _is_before(line: bytes, step: int) -> bool:
    """Return whether a line is of this step or an earlier one; False if it is half-written."""
    try:
        return bool(parse_json(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False


def hparams(config: RunConfig, ipc: float) -> dict[str, Any]:
    """Return what TensorBoard compares runs by: components, stored IPC and options."""
    chosen = {kind: config.chosen(kind) for kind in BY_OPTION}
    options = {
        f"{kind}.{name}": value
        for kind, table in config.written_options().items()
        for name, value in table.items()
        if isinstance(value, bool | int | float | str)
    }
    return {**chosen, "ipc": ipc, "steps": config.steps, "seed": config.seed, **options}


class TensorBoardLog:
    """Writes scalars during the run, and poster, labels and settings on request.

    Args:
        run_dir: event files go here.
        step: the step that the run resumes from.
    """

    def __init__(self, run_dir: Path, *, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.run_dir = run_dir
        self._writer = SummaryWriter(str(run_dir), purge_step=step + 1 if step else None)

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step as scalars."""
        for name, value in metrics.items():
            self._writer.add_scalar(f"outer/{name}", value, step)

    def after_validation(self, step: int, accuracies: Sequence[float]) -> None:
        """Write the mean validation accuracy."""
        self._writer.add_scalar("validation/accuracy", statistics.fmean(accuracies), step)

    def after_going_back(self, step: int, what: str) -> None:
        """Start another event file, which hides the later steps of this one."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer.close()
        self._writer = SummaryWriter(str(self.run_dir), purge_step=step + 1)
        self._writer.add_text("divergence", what, step)

    def picture(self, name: str, image: Any, step: int) -> None:
        """Show an (H, W, 3) uint8 array."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def settings(self, settings: Mapping[str, Any], results: Mapping[str, float]) -> None:
        """Record settings and results together, in the run's own folder."""
        self._writer.add_hparams(dict(settings), dict(results), run_name=".")

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class Snapshots:
    """Saves `run.snapshots` pictures, evenly over the run from its start to its end.

    Args:
        run_dir: the pictures go to its folder "snapshots".
        current: returns the parts with the current result.
        step: the step that the run resumes from. Later pictures are removed, since those steps
            are repeated.
        seconds: already spent in outer steps.
    """

    def __init__(
        self, run_dir: Path, current: Callable[[], Assembly], *, step: int = 0, seconds: float = 0.0
    ) -> None:
        self.run_dir, self.current, self.seconds = run_dir, current, seconds
        self._drop_after(step)

    def save_if_due(self, step: int) -> None:
        """Save a picture if the run has reached the next one."""
        assembly = self.current()
        config = assembly.config
        if not config.snapshots:
            return
        done = step / max(assembly.steps, 1)
        if config.minutes is not None:
            done = max(done, self.seconds / (60 * config.minutes))
        if len(snapshots_of(self.run_dir)) > min(done, 1.0) * (config.snapshots - 1):
            return
        canvases = to_bytes(unwhitened_canvases(assembly.synthetic, assembly.real))
        picture = to_png(to_image(sheet(canvases, 1)[0]))
        write_atomically(check_folder(self.run_dir / SNAPSHOTS) / f"step_{step:07}.png", picture)

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Save a picture if one is due."""
        self.seconds += metrics["seconds"]
        self.save_if_due(step)

    def after_validation(self, step: int, accuracies: Sequence[float]) -> None:
        """Nothing to do."""

    def after_going_back(self, step: int, what: str) -> None:
        """Drop the pictures of the steps that are repeated."""
        self._drop_after(step)

    def _drop_after(self, step: int) -> None:
        for path in snapshots_of(self.run_dir):
            if _step_of(path) > step:
                check_plain(path)
                path.unlink()


def snapshots_of(run_dir: Path) -> list[Path]:
    """Return the pictures of a run in the order of their steps."""
    found = check_folder(run_dir / SNAPSHOTS).glob("step_*.png")
    return sorted((path for path in found if STEP.fullmatch(path.stem)), key=_step_of)


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))

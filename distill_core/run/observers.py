"""What watches a run: the metrics file and TensorBoard. They change nothing."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_core.system.files import parse_json, write_atomically

if TYPE_CHECKING:
    from distill_core.config.run_config import RunConfig


class MetricsFile:
    """Appends one JSON line for every outer step and every evaluation.

    Args:
        path: metrics.jsonl of a run.
        step: the step that the run goes on from; later lines, which the run had written after
            its last checkpoint, are dropped, since those steps are done again.
    """

    def __init__(self, path: Path, *, step: int = 0) -> None:
        self.path = path
        if path.exists():
            self._drop_after(step)

    def _drop_after(self, step: int) -> None:
        # A line that is damaged is dropped, too.
        text = self.path.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if _is_before(line, step)]
        write_atomically(self.path, "".join(line + "\n" for line in lines).encode())

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step."""
        self.write({"kind": "step", "step": step, **metrics})

    def after_validation(self, step: int, accuracies: Sequence[float]) -> None:
        """Write the mean validation accuracy, and that of each network."""
        mean = statistics.fmean(accuracies)
        line = {"kind": "validation", "step": step, "accuracy": mean}
        self.write({**line, "accuracies": list(accuracies)})

    def after_going_back(self, step: int, what: str) -> None:
        """Drop the lines of the steps that are done again, and write why."""
        if self.path.exists():
            self._drop_after(step)
        self.write({"kind": "divergence", "step": step, "what": what})


def _is_before(line: str, step: int) -> bool:
    """A half-written last line is no line."""
    try:
        return bool(parse_json(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False


def hparams(config: RunConfig, ipc: float) -> dict[str, Any]:
    """Return what TensorBoard compares runs by: the choices, the stored IPC and the options."""
    kinds = ("repr", "labeler", "orderer", "algo", "dataset", "backbone")
    chosen = {name: config.chosen(name) for name in kinds}
    options = {
        f"{kind}.{name}": value
        for kind, table in config.written_options().items()
        for name, value in table.items()
        if isinstance(value, bool | int | float | str)
    }
    return {**chosen, "ipc": ipc, "steps": config.steps, "seed": config.seed, **options}


class TensorBoardLog:
    """Scalars while the run goes on; poster, labels and settings when asked.

    Args:
        run_dir: event files go here.
        step: the step that the run goes on from.
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
        """Begin another event file, which hides the later steps of this one."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer.close()
        self._writer = SummaryWriter(str(self.run_dir), purge_step=step + 1)
        self._writer.add_text("divergence", what, step)

    def picture(self, name: str, image: Any, step: int) -> None:
        """Show an (H, W, 3) uint8 array."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def settings(self, settings: Mapping[str, Any], results: Mapping[str, float]) -> None:
        """Record what was chosen beside what came out, in the run's own folder."""
        self._writer.add_hparams(dict(settings), dict(results), run_name=".")

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()

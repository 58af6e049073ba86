"""Snapshots: small pictures of the canvases while a run goes on, for its time-lapse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distill_core.artefact.pictures import (
    sheet,
    to_bytes,
    to_image,
    to_png,
    unwhitened_canvases,
)
from distill_core.run.assemble import Assembly
from distill_core.system.files import write_atomically

FOLDER = "snapshots"


class Snapshots:
    """Saves `run.snapshots` pictures, evenly over the run from its start to its end.

    Args:
        run_dir: the pictures go to its folder "snapshots".
        current: returns the parts with what the run gives now.
        step: the step that the run goes on from; later pictures are removed, since those steps
            are done again.
        seconds: spent in outer steps before.
    """

    def __init__(
        self, run_dir: Path, current: Callable[[], Assembly], *, step: int = 0, seconds: float = 0.0
    ) -> None:
        self.run_dir, self.current, self.seconds = run_dir, current, seconds
        self._drop_after(step)

    def save_if_due(self, step: int) -> None:
        """Save a picture if the run has come so far."""
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
        write_atomically(self.run_dir / FOLDER / f"step_{step:07}.png", picture)

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Save a picture if it is time."""
        self.seconds += metrics["seconds"]
        self.save_if_due(step)

    def after_validation(self, step: int, accuracies: Sequence[float]) -> None:
        """Nothing to do."""

    def after_going_back(self, step: int, what: str) -> None:
        """Drop the pictures of the steps that are done again."""
        self._drop_after(step)

    def _drop_after(self, step: int) -> None:
        for path in snapshots_of(self.run_dir):
            if _step_of(path) > step:
                path.unlink()


def snapshots_of(run_dir: Path) -> list[Path]:
    """Return the pictures of a run in the order of their steps."""
    found = (run_dir / FOLDER).glob("step_*.png")
    return sorted((path for path in found if path.stem[5:].isdigit()), key=_step_of)


def _step_of(path: Path) -> int:
    return int(path.stem[5:])

"""The start of a run: if it is refused, it leaves its directory as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from distill_core.artefact.contents import CHECKPOINT, RUN
from distill_core.artefact.result_file import RESULTS
from distill_core.system.out_of_memory import is_out_of_memory


class Start:
    """What was in the directory of a run before the run began.

    Args:
        run_dir: the directory, which may be missing.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._missing = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
        self._there = set() if self._missing else set(run_dir.iterdir())
        self._resumed = False

    def emptied(self) -> None:
        """Say that what was there has been deleted."""
        self._there = set()

    def resumed(self) -> None:
        """Say that the run goes on from a saved state: from now on nothing is undone."""
        self._resumed = True

    @contextlib.contextmanager
    def undone_if_refused(self) -> Iterator[None]:
        """Undo the start if the run is refused, or fails before anything of it is saved.

        What the machine refused, and what a signal ended, is left, since it can be resumed. To be
        entered with the lock, so that nothing of another run is removed.
        """
        try:
            yield
        except (KeyboardInterrupt, OSError):
            raise
        except BaseException as error:
            if not self._resumed and not is_out_of_memory(error) and self.run_dir.is_dir():
                self._undo()
            raise

    def _undo(self) -> None:
        """Remove what this run has written, unless a state of it is saved, and empty folders."""
        new = [path for path in RUN.written(self.run_dir) if self._is_new(path)]
        if {CHECKPOINT, *RESULTS} & {path.name for path in new}:
            return
        with contextlib.suppress(OSError):  # the error that ended the run is told
            for path in new:
                path.rmdir() if path.is_dir() else path.unlink()
            for path in self._missing:
                path.rmdir()

    def _is_new(self, path: Path) -> bool:
        return not {path, path.parent} & self._there

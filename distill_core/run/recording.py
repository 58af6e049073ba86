"""What a run writes besides its checkpoints: metrics, TensorBoard events and its artefact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill_core.artefact.contents import METRICS
from distill_core.artefact.manifest import judged_manifest, read_manifest
from distill_core.artefact.pictures import label_heat_map, patch_sheet, poster_array
from distill_core.artefact.saving import ArtefactWriter
from distill_core.evaluation.evaluate import Result
from distill_core.run.loop import Observer, OuterLoop
from distill_core.run.manifest import manifest
from distill_core.run.notices import Notice
from distill_core.run.observers import MetricsFile, TensorBoardLog, hparams
from distill_core.system.memory import peak_memory
from registry import InputError, Plugins


class RunLog:
    """What rank 0 writes during the run."""

    def __init__(self, run_dir: Path, step: int) -> None:
        self.metrics = MetricsFile(run_dir / METRICS, step=step)
        self.board = TensorBoardLog(run_dir, step=step)
        self.observers: tuple[Observer, ...] = (self.metrics, self.board)

    def results(self, loop: OuterLoop, results: dict[str, Result]) -> None:
        """Write poster, labels, settings and the accuracies of fresh networks."""
        assembly, board, step = loop.result, self.board, loop.step
        board.picture("poster", poster_array(assembly.synthetic, assembly.real), step)
        board.picture("labels", label_heat_map(assembly.synthetic), step)
        for name, result in results.items():
            line = {"kind": "evaluation", "step": step, "what": name}
            self.metrics.write({**line, **result.as_dict()})
        board.picture("patches", patch_sheet(assembly.synthetic, assembly.real), step)
        reached = {name: result.mean for name, result in results.items()}
        board.settings(hparams(assembly.config, assembly.synthetic.budget().ipc), reached)


def save_result(
    plugins: Plugins,
    writer: ArtefactWriter,
    loop: OuterLoop,
    *,
    results: dict[str, Result] | None = None,
    peak: int | None = None,
    commands: Sequence[Sequence[str]] = (),
    notices: Sequence[Notice] = (),
) -> None:
    """Write the artefact, at every checkpoint, so that a run in progress can be inspected.

    A judged one is kept until another step, or another judgement, replaces it: a finished run that
    is resumed, and ends before it is judged again, has its results still.

    Raises:
        ContractError: images or labels break their contract; nothing is written.
    """
    assembly, ranks = loop.result, loop.ranks
    if not ranks.is_main or (
        results is None and judged_manifest(loop.run_dir).get("outer_steps") == loop.step
    ):
        return
    assembly.check_synthetic()
    record = manifest(
        assembly,
        plugins,
        step=loop.step,
        seconds=loop.seconds,
        results={name: result.as_dict() for name, result in (results or {}).items()},
        best_step=loop.best_step,
        processes=ranks.size,
        divergences=loop.divergences,
        peak_memory=peak or peak_memory(assembly.device),
        commands=commands,
        notices=notices,
    )
    writer.save(assembly.synthetic, recipe=assembly.algorithm.recipe(), manifest=record)


def earlier_commands(run_dir: Path) -> list[list[str]]:
    """Return the command lines of a run so far; empty if they are not known."""
    try:
        found = read_manifest(run_dir)["commands"]
        return [[str(word) for word in words] for words in found]
    except (InputError, KeyError, TypeError):
        return []  # made from Python or by an earlier version, or stopped before its first save

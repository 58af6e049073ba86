"""One run from its configuration to its verdict: what `distill run` does.

Assembles, distills with the outer loop, saves, judges, and says what happened. Signals are
handled here: the first Ctrl-C or SIGTERM ends the run after the current step with its state
saved, a second Ctrl-C at once with the last checkpoint.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from distill_core import __version__
from distill_core.artefact import save_artefact
from distill_core.assemble import Assembly, assemble, pick_device
from distill_core.checkpoint import load_checkpoint
from distill_core.config import RunConfig, to_toml
from distill_core.evaluate import Result
from distill_core.files import write_atomically
from distill_core.judge import NAMES, Candidate, check_validation, judge, table, validation_accuracy
from distill_core.manifest import manifest
from distill_core.observers import MetricsFile, TensorBoardLog
from distill_core.pictures import label_heat_map, poster_array
from distill_core.progress import ConsoleProgress, duration
from distill_core.run import OuterLoop
from distill_core.run_directory import CONFIG, METRICS, begin
from distill_core.runtime import prepare
from distill_core.streams import Streams
from registry import Plugins


class Interrupted(Exception):
    """The user ended the run; its state is saved."""


def preview(config: RunConfig, plugins: Plugins) -> None:
    """Print the resolved configuration, the budget and the cost of an outer step."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(to_toml(config), markup=False)
    machine = prepare(config)
    assembly = assemble(config, plugins)
    _print_facts(console, assembly)
    console.print(f"machine  {assembly.device}, {machine}")
    estimate = assembly.algorithm.estimate(assembly.synthetic, rng=Streams(config.seed))
    if estimate is None:
        console.print(f"cost     algorithm '{config.algo}' cannot predict it")
        return
    whole = duration(estimate.seconds * config.steps)
    console.print(
        f"cost     one outer step: {estimate.seconds:.2f} s and {estimate.memory / 2**20:.0f} "
        f"MiB beyond the data; {config.steps} steps: {whole}\n         ({estimate.measured})"
    )


def run(
    config: RunConfig, plugins: Plugins, run_dir: Path, *, resume: bool, overwrite: bool
) -> dict[str, Result]:
    """Distill, save and judge; return what was found, by name.

    Raises:
        Interrupted: a signal ended the run; the state is saved.
        ExplainedError: as the parts say.
    """
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"machine  {pick_device(config.device)}, {prepare(config)}")
    state = load_checkpoint(run_dir, config) if resume else {}
    console.print(f"loading  {config.dataset}")
    assembly = assemble(
        config, plugins, class_grid=state.get("class_grid"), notes=state.get("notes")
    )
    check_validation(assembly)
    _print_facts(console, assembly)
    if resume:
        write_atomically(run_dir / CONFIG, to_toml(config).encode())
    else:
        begin(run_dir, config, overwrite=overwrite)
    step = int(state.get("step", 0))
    metrics = MetricsFile(run_dir / METRICS, step=step)
    board = TensorBoardLog(run_dir, step=step)
    console.print(f"run      {run_dir}")
    try:
        spent = float(state.get("seconds", 0.0)) / 60
        left = None if config.minutes is None else max(config.minutes - spent, 0.0)
        with ConsoleProgress(console, steps=config.steps, step=step, minutes=left) as progress:
            loop = OuterLoop(
                assembly,
                run_dir,
                observers=[metrics, board, progress],
                validate=lambda: validation_accuracy(loop.result),
                on_checkpoint=lambda: _save(loop.result, plugins, run_dir, loop),
            )
            if resume:
                loop.load_state_dict(state)
            with _stop_flag() as stop:
                complete = loop.run(stop)
        if not complete:
            raise Interrupted
        return _finish(
            console, loop.result, plugins, run_dir, loop=loop, metrics=metrics, board=board
        )
    finally:
        board.close()


def _finish(
    console: Console,
    assembly: Assembly,
    plugins: Plugins,
    run_dir: Path,
    *,
    loop: OuterLoop,
    metrics: MetricsFile,
    board: TensorBoardLog,
) -> dict[str, Result]:
    config = assembly.config
    if config.evaluate.select == "best":
        loop.use_best()  # the last checkpoint's artefact holds the last state
        _save(assembly, plugins, run_dir, loop)
    board.picture("poster", poster_array(assembly.synthetic, assembly.real), loop.step)
    board.picture("labels", label_heat_map(assembly.synthetic), loop.step)
    console.print(f"distilled in {loop.step} outer steps and {duration(loop.seconds)}")
    results = judge(
        Candidate.of(assembly, step=loop.step),
        assembly.real,
        config,
        assembly.make_backbone,
        after_net=lambda what, net, accuracy: console.print(
            f"         {NAMES[what]}: network {net + 1} {100 * accuracy:.2f} %"
        ),
    )
    console.print(table(results), markup=False)
    for name, result in results.items():
        metrics.write({"kind": "evaluation", "step": loop.step, "what": name, **result.as_dict()})
    choices = {name: config.chosen(name) for name in ("repr", "labeler", "orderer", "algo")}
    board.settings(choices, {name: result.mean for name, result in results.items()})
    _save(assembly, plugins, run_dir, loop, results=results)
    console.print(f"saved    {run_dir} (poster.png, distilled.safetensors, metrics.jsonl)")
    return results


def _save(
    assembly: Assembly,
    plugins: Plugins,
    run_dir: Path,
    loop: OuterLoop,
    *,
    results: dict[str, Result] | None = None,
) -> None:
    """Write the artefact and the pictures; done at every checkpoint, so that a running run can
    be looked at."""
    record = manifest(
        assembly,
        plugins,
        step=loop.step,
        seconds=loop.seconds,
        results={name: result.as_dict() for name, result in (results or {}).items()},
        best_step=loop.best.get("step") if assembly.config.evaluate.select == "best" else None,
    )
    save_artefact(
        run_dir,
        assembly.synthetic,
        real=assembly.real,
        recipe=assembly.algorithm.recipe(),
        manifest=record,
    )


def _print_facts(console: Console, assembly: Assembly) -> None:
    config, layout = assembly.config, assembly.placement.layout
    real = assembly.real
    h, w = layout.canvas_hw
    console.print(
        f"distill {__version__}: {config.repr} x {config.labeler} x {config.orderer} x "
        f"{config.algo} on {config.dataset} ({assembly.device})\n"
        f"data     {len(real.train)} training, {len(real.validation)} validation, "
        f"{len(real.test)} test images; {real.spec.num_classes} classes\n"
        f"pixels   {layout.num_canvases} canvas(es) of {h}x{w}, {len(layout.items)} training "
        f"images of {real.spec.image_shape[1]}x{real.spec.image_shape[2]}\n"
        f"budget   {assembly.synthetic.budget()}"
    )
    for name, note in assembly.notes.items():
        console.print(f"order    {name}: {note}", markup=False)
    console.print(f"engine   {assembly.engine.describe()}", markup=False)
    for name, note in assembly.algorithm.notes().items():
        console.print(f"{config.algo:<8} {name}: {note}", markup=False)


class _Stop:
    """Becomes true at the first signal."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self) -> bool:
        return self.asked

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        Console(stderr=True).print("ending after this outer step; Ctrl-C again ends at once")


@contextmanager
def _stop_flag() -> Iterator[_Stop]:
    stop = _Stop()
    old = {number: signal.signal(number, stop.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)

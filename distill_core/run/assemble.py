"""From a resolved configuration to the objects of a run: plan, rehearse, make.

The plan looks up the components. The rehearsal makes all parts from noise in the shape of the
dataset, so that parts that do not fit are refused before files are read. Then the same parts are
made from the real images. Nothing is trained here, except for what a labeler needs to label the
starting images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor

from distill_core.config.advice import blaming_extremes, lowering
from distill_core.config.run_config import RunConfig
from distill_core.contracts.algorithm import Algorithm, Task
from distill_core.contracts.data import RealData
from distill_core.contracts.geometry import Placement, check_class_grid
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.data.identity import Identity
from distill_core.data.placeholder import noise
from distill_core.engine.engine import Engine
from distill_core.layout.class_order import one_row, order_classes
from distill_core.run.checks import SOME, check_numbers, check_start, check_synthetic, watched
from distill_core.run.parts import budget_of, make_parts, make_task
from distill_core.run.plan import Plan
from distill_core.run.rehearsal import rehearse
from distill_core.run.uncounted import check_counted
from distill_core.run.within_memory import within_memory
from distill_core.system.out_of_memory import KEPT_SMALLER, memory_for
from distill_core.system.process import release_memory
from distill_core.system.waiting import told_if_slow
from registry import Plugins


@dataclass(frozen=True)
class Assembly:
    """The parts of a run.

    Attributes:
        config: the resolved configuration.
        real: the real data, on the device.
        synthetic: what is distilled, on the device.
        algorithm: how.
        new_algorithm: makes another one like it, for a trial.
        new_synthetic: makes another one like it, without its numbers, on the CPU.
        make_backbone: makes a fresh network of the run's backbone, on the device.
        engine: differentiates inner losses.
        placement: layout and class grid.
        rng: the named streams; those that gave the starting values have advanced.
        device: where tensors live.
        notes: of orderer and core on the class order, for the record.
        named: the names of representation, labeler and algorithm in messages, with their plugins.
        made_with: what the representation was made with beside options and data.
    """

    config: RunConfig
    real: RealData
    synthetic: SyntheticDataset
    algorithm: Algorithm
    new_algorithm: Callable[[], Algorithm]
    new_synthetic: Callable[[], SyntheticDataset]
    make_backbone: Callable[[Generator], Backbone]
    engine: Engine
    placement: Placement
    rng: Streams
    device: torch.device
    notes: dict[str, str] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    made_with: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Outer steps of the whole run; 0 for an algorithm that learns nothing."""
        return self.config.steps if self.algorithm.learns else 0

    def check_synthetic(self) -> None:
        """Refuse images and labels that nobody could read: updates may have led out of the range.

        Raises:
            ContractError: naming the representation or the labeler.
        """
        check_synthetic(self.synthetic, self.named, at_once=SOME)

    def check_counted(self) -> None:
        """Refuse images and labels that are made of more than what is stored.

        Raises:
            ContractError: naming the representation or the labeler.
        """
        check_counted(self.synthetic, self.new_synthetic().to(self.device), self.named)

    @property
    def ema(self) -> float | None:
        """Decay of the moving average: the run's own, or the algorithm's default."""
        return _ema(self.config, self.algorithm)


def assemble(
    config: RunConfig,
    plugins: Plugins,
    *,
    class_grid: Tensor | None = None,
    notes: Mapping[str, str] | None = None,
    real: RealData | None = None,
    start: bool = True,
    tell: Callable[[str], None] = lambda line: None,
    check: Callable[[Identity], None] = lambda identity: None,
) -> Assembly:
    """Make everything that a run needs.

    Args:
        config: a configuration from `config.resolve`.
        plugins: what is installed.
        class_grid: the grid of a run that is resumed; the orderer is not asked again.
        notes: the notes of that run.
        real: used in place of the dataset's images.
        start: call `Labeler.start`; not needed if a state is loaded afterwards, or to predict a
            cost.
        tell: called with lines about what that does.
        check: raises if the dataset's images are not those that are meant; called before anything
            is made of them.

    Raises:
        ExplainedError: a component cannot do what is configured, or two do not fit each other.
    """
    plan = Plan.of(config, plugins)
    usual = "lower --ipc, or choose a smaller --repr or --labeler."
    lower = lowering(config, usual, of=["repr", "labeler"])
    with memory_for("the synthetic images and their labels", next=lower):
        if real is None:
            if class_grid is None:
                with told_if_slow(tell, "check    makes every part once, from noise"):
                    rehearse(plan)
            with memory_for("the real images", next=KEPT_SMALLER):
                real = plan.real_data(check, tell)
        assembly = _assemble(plan, real, class_grid, notes, start=start, tell=tell)
    release_memory()  # of the checks of all items
    return assembly


def _assemble(
    plan: Plan,
    real: RealData,
    class_grid: Tensor | None,
    notes: Mapping[str, str] | None,
    *,
    start: bool,
    tell: Callable[[str], None],
) -> Assembly:
    """Make everything but the real data, which are there."""
    config, device, rng = plan.config, plan.device, Streams(plan.config.seed)
    with told_if_slow(tell, "budget   looks for the largest size that fits"):
        ipc = budget_of(plan, real)
    representation = plan.representation(real.spec, ipc)
    layout = representation.layout
    if class_grid is None:
        builder, shape = plan.builders["orderer"], layout.grid_shape
        with told_if_slow(tell, f"order    {builder} orders the classes, as long as it is told to"):
            order = order_classes(builder, real, grid_shape=shape, generator=rng["order"])
        shared = layout.num_canvases < real.spec.num_classes
        grid_note = one_row(real.spec.num_classes) if shared else {}
        class_grid, notes = order.grid, {**grid_note, **order.notes}
    else:
        class_grid = check_class_grid(class_grid, layout.grid_shape)
    parts = make_parts(plan, real, representation, class_grid)
    synthetic, task = parts.synthetic, parts.task
    making = f"{plan.name('representation')} makes its starting images, as long as it is told to"
    with torch.no_grad():
        with told_if_slow(tell, f"start    {making}"):
            plan.call(
                "representation",
                representation.reset,
                synthetic.placement,
                real,
                generator=rng["init"],
            )
        if start:
            _start_labels(plan, synthetic, task, tell)
    named = {kind: plan.name(kind) for kind in ("representation", "labeler", "algorithm")}

    def new_synthetic() -> SyntheticDataset:
        other = plan.representation(real.spec, ipc)
        other.use_whitening(real.whitening)
        return plan.synthetic(real.spec, other, synthetic.placement.class_grid)

    with blaming_extremes(config, "repr", "labeler"):
        check_start(synthetic, named, learns=parts.algorithm.learns)
    if start:
        check_counted(synthetic, new_synthetic(), named)
    synthetic = synthetic.to(device)
    engine, algorithm = parts.engine, parts.algorithm
    if config.engine.max_memory and algorithm.learns:
        averages = _ema(config, algorithm) is not None
        engine = within_memory(plan, task, engine, synthetic, averages=averages)
        task = replace(task, engine=engine)
        algorithm = plan.make("algorithm", task=task)
    return Assembly(
        config=config,
        real=real,
        synthetic=synthetic,
        algorithm=algorithm,
        new_algorithm=lambda: plan.make("algorithm", task=task),
        new_synthetic=new_synthetic,
        make_backbone=task.new_backbone,
        engine=engine,
        placement=synthetic.placement,
        rng=rng,
        device=device,
        notes=dict(notes or {}),
        named=named,
        made_with=plan.made_with(real.spec, ipc),
    )


def _ema(config: RunConfig, algorithm: Algorithm) -> float | None:
    return algorithm.default_ema() if config.ema is None else config.ema


def _start_labels(
    plan: Plan, synthetic: SyntheticDataset, task: Task, tell: Callable[[str], None]
) -> None:
    """Let the labeler look at the starting images."""
    items = synthetic.placement.layout.items
    images = plan.call("representation", synthetic.representation.expand, items)
    shape = (len(items), *synthetic.spec.image_shape)
    with blaming_extremes(plan.config, "repr"):
        check_numbers(plan.name("representation"), "images", images, shape, torch.float32)
    with watched(plan.name("labeler"), "start", images):
        plan.call(
            "labeler",
            synthetic.labeler.start,
            images,
            real=task.real,
            experts=task.experts,
            tell=tell,
        )


def assemble_algorithm(
    config: RunConfig, plugins: Plugins, check: Callable[[Algorithm], None]
) -> Algorithm:
    """Make a run's algorithm without a synthetic dataset, for what it does ahead of a run.

    Args:
        config: the settings.
        plugins: what is installed.
        check: refuses an algorithm; called before the data are loaded, too, if their shape is
            known.

    Raises:
        ExplainedError: a component cannot do what is asked.
    """
    plan = Plan.of(config, plugins, {"dataset", "backbone", "algorithm"})
    if (spec := plan.outline()) is not None:
        task, _ = make_task(plan, noise(spec, plan.device))
        check(plan.make("algorithm", task=task))
    task, _ = make_task(plan, plan.real_data())
    algorithm: Algorithm = plan.make("algorithm", task=task)
    check(algorithm)
    return algorithm


def load_real(
    config: RunConfig,
    plugins: Plugins,
    check: Callable[[Identity], None] = lambda identity: None,
) -> RealData:
    """Load, split and whiten the dataset of a run, and move it to the device.

    Args:
        config: the configuration of the run.
        plugins: what is installed.
        check: raises if these are not the data that are meant; called before they are whitened.
    """
    return Plan.of(config, plugins, {"dataset"}).real_data(check)

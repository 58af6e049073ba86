"""From a resolved configuration to the objects of a run, in one visible order.

Data, representation, class grid, placement, labeler, algorithm, synthetic dataset: each is made
once, from its options and from what came before it. Nothing is trained here but what a labeler
needs to look at the starting images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor

from distill_core.arithmetic import inner_precision
from distill_core.backbones import new_backbone
from distill_core.cache import cache_dir
from distill_core.checking import check_synthetic, check_traits, watched
from distill_core.class_order import order_classes
from distill_core.config import RunConfig
from distill_core.contracts import (
    Algorithm,
    Backbone,
    Estimate,
    Labeler,
    Representation,
    Task,
)
from distill_core.data import DataSpec, RealData
from distill_core.devices import pick_device
from distill_core.experts_store import Experts
from distill_core.geometry import Placement, check_class_grid
from distill_core.hypergradient.device_memory import Trial
from distill_core.hypergradient.engine import Engine
from distill_core.hypergradient.memory import ACTIVATION_CACHES, stay_within
from distill_core.maker import Maker
from distill_core.runtime import release_memory
from distill_core.stand_in import noise, outline_of
from distill_core.streams import Streams
from distill_core.synthetic import SyntheticDataset, check_budget
from registry import Plugins


@dataclass(frozen=True)
class Assembly:
    """The parts of a run.

    Attributes:
        config: the resolved configuration.
        real: the real data, on the device.
        synthetic: what is distilled, on the device.
        algorithm: how.
        make_backbone: makes a fresh network of the run's backbone, on the device.
        engine: differentiates inner losses.
        placement: layout and class grid.
        rng: the named streams; those that starting values were drawn from have moved on.
        device: where tensors live.
        notes: what orderer and core have to say about the class order, for the record.
        algorithm_named: how messages name the algorithm, with its plugin.
    """

    config: RunConfig
    real: RealData
    synthetic: SyntheticDataset
    algorithm: Algorithm
    make_backbone: Callable[[Generator], Backbone]
    engine: Engine
    placement: Placement
    rng: Streams
    device: torch.device
    notes: dict[str, str] = field(default_factory=dict)
    algorithm_named: str = "the algorithm"

    @property
    def steps(self) -> int:
        """Outer steps of the whole run: none with an algorithm that learns nothing."""
        return self.config.steps if self.algorithm.learns else 0

    @property
    def ema(self) -> float | None:
        """Decay of the moving average: the run's, or else what the algorithm asks for."""
        return self.algorithm.default_ema() if self.config.ema is None else self.config.ema


def assemble(
    config: RunConfig,
    plugins: Plugins,
    *,
    class_grid: Tensor | None = None,
    notes: Mapping[str, str] | None = None,
    real: RealData | None = None,
    start: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> Assembly:
    """Make everything that a run needs.

    Args:
        config: a configuration from `config.resolve`.
        plugins: what is installed.
        class_grid: the grid of a run that is resumed; the orderer is not asked again.
        notes: the notes of that run.
        real: used in place of the dataset's images.
        start: call `Labeler.start`. Not where a state is loaded afterwards, and not to predict a
            cost.
        tell: is told of what that does.

    Raises:
        ExplainedError: a component cannot do what is asked, or two do not fit each other.
    """
    device = pick_device(config.device)
    maker = Maker(config, plugins)
    if real is None:
        if class_grid is None:
            _check_fit(maker, device)
        real = load_real(config, plugins, device=device)
    rng = Streams(config.seed)
    representation = _representation(maker, real)
    layout = representation.layout
    if class_grid is None:
        order = order_classes(
            plugins["orderer"], config.orderer, config.options["orderer"], real,
            grid_shape=layout.grid_shape, generator=rng["order"],
        )  # fmt: skip
        class_grid, notes = order.grid, order.notes
    else:
        class_grid = check_class_grid(class_grid, layout.grid_shape)
    placement = Placement(layout, class_grid)
    synthetic, task, algorithm = _fitted(maker, real, representation, placement, device)
    with torch.no_grad():
        maker.call("representation", "repr", representation.reset, placement, real,
                   generator=rng["init"])  # fmt: skip
        if start:
            _start_labels(maker, synthetic, task, tell)
    check_synthetic(
        synthetic,
        representation=maker.who("representation", "repr"),
        labeler=maker.who("labeler", "labeler"),
    )
    synthetic = synthetic.to(device)
    if config.engine.max_memory and algorithm.learns:
        task = replace(task, engine=_within_memory(maker, task, synthetic, device))
        algorithm = maker.make("algorithm", "algo", task=task)
    return Assembly(
        config=config,
        real=real,
        synthetic=synthetic,
        algorithm=algorithm,
        make_backbone=task.new_backbone,
        engine=task.engine,
        placement=placement,
        rng=rng,
        device=device,
        notes=dict(notes or {}),
        algorithm_named=maker.who("algorithm", "algo"),
    )


def _check_fit(maker: Maker, device: torch.device) -> None:
    """Make the parts for noise of the dataset's shape, where it tells that without its files.

    Loading and whitening may take long, and parts that do not fit are to be refused before.
    """
    spec = outline_of(maker.make("dataset", "dataset"))
    if spec is None:
        return
    real = noise(spec, device)
    representation = _representation(maker, real)
    shape = representation.layout.grid_shape
    if math.prod(shape) != spec.num_classes:
        return  # what asks for a class order says so
    some_grid = torch.arange(spec.num_classes).reshape(shape)
    _fitted(maker, real, representation, Placement(representation.layout, some_grid), device)


def _representation(maker: Maker, real: RealData) -> Representation:
    made: Representation = maker.make(
        "representation", "repr", spec=real.spec, ipc=maker.config.ipc
    )
    return made


def _fitted(
    maker: Maker,
    real: RealData,
    representation: Representation,
    placement: Placement,
    device: torch.device,
) -> tuple[SyntheticDataset, Task, Algorithm]:
    """Make the other parts, and check that they can work together."""
    config = maker.config
    labeler: Labeler = maker.make("labeler", "labeler", placement=placement)
    synthetic = SyntheticDataset(representation, labeler, placement=placement, spec=real.spec)
    check_budget(synthetic.budget(), config.ipc)
    make_backbone = backbone_maker(
        config.backbone,
        config.options["backbone"],
        maker.plugins,
        spec=real.spec,
        device=device,
    )
    task = _task(config, real, make_backbone, device)
    algorithm: Algorithm = maker.make("algorithm", "algo", task=task)
    check_traits(config, synthetic, labeler, algorithm)
    return synthetic, task, algorithm


def _start_labels(
    maker: Maker, synthetic: SyntheticDataset, task: Task, tell: Callable[[str], None]
) -> None:
    """Let the labeler look at the starting images."""
    images = synthetic.representation.expand(synthetic.placement.layout.items)
    with watched(maker.who("labeler", "labeler"), "start", images):
        maker.call("labeler", "labeler", synthetic.labeler.start, images, real=task.real,
                   experts=task.experts, tell=tell)  # fmt: skip


def assemble_algorithm(config: RunConfig, plugins: Plugins) -> Algorithm:
    """Make a run's algorithm without a synthetic dataset, for what it does ahead of a run.

    Raises:
        ExplainedError: a component cannot do what is asked.
    """
    device = pick_device(config.device)
    real = load_real(config, plugins, device=device)
    make_backbone = backbone_maker(
        config.backbone, config.options["backbone"], plugins, spec=real.spec, device=device
    )
    task = _task(config, real, make_backbone, device)
    algorithm: Algorithm = Maker(config, plugins).make("algorithm", "algo", task=task)
    return algorithm


def _task(
    config: RunConfig,
    real: RealData,
    make_backbone: Callable[[Generator], Backbone],
    device: torch.device,
) -> Task:
    """What an algorithm is given; expert trajectories are kept in the cache."""
    engine = Engine.choose(
        config.engine,
        make_backbone(Generator().manual_seed(0)),
        device,
        image_shape=real.spec.image_shape,
    )
    experts = Experts(
        real,
        make_backbone,
        engine,
        backbone={"name": config.backbone, "options": config.options["backbone"]},
        seed=config.seed,
        folder=cache_dir() / "experts",
    )
    return Task(real=real, new_backbone=make_backbone, engine=engine, experts=experts)


def _within_memory(
    maker: Maker, task: Task, synthetic: SyntheticDataset, device: torch.device
) -> Engine:
    """Choose how many images are taken at a time, by short outer steps of trial algorithms."""

    trial = Trial(device)

    def predict(engine: Engine) -> Estimate | None:
        algorithm: Algorithm = maker.make(
            "algorithm", "algo", task=replace(task, engine=engine.recapturing())
        )
        with inner_precision(maker.config):
            return trial.run(lambda: algorithm.estimate(synthetic, rng=Streams(maker.config.seed)))

    options = maker.config.engine
    asked = (task.engine.activation_cache,)
    caches = ACTIVATION_CACHES if options.activation_cache == "auto" else asked
    return stay_within(
        task.engine,
        options.max_memory or "",
        in_use=trial.in_use,
        predict=predict,
        largest=len(synthetic) if task.engine.splits else None,
        caches=() if task.engine.graphs else caches,
    )


def load_real(
    config: RunConfig, plugins: Plugins, *, device: torch.device | None = None
) -> RealData:
    """Load, split and whiten the dataset of a run, and move it to the device."""
    maker = Maker(config, plugins)
    dataset = maker.make("dataset", "dataset")
    # The raw images have no name here, so they are freed as soon as `prepare` is through.
    real = RealData.prepare(
        maker.call("dataset", "dataset", dataset.load),
        config.data,
        seed=config.seed,
        device=device or pick_device(config.device),
    )
    release_memory()
    return real


def backbone_maker(
    name: str,
    options: Mapping[str, Any],
    plugins: Plugins,
    *,
    spec: DataSpec,
    device: torch.device,
) -> Callable[[Generator], Backbone]:
    """Return a function that makes fresh networks; one is made at once, to fail early.

    Raises:
        ExplainedError: the backbone does not exist or cannot take these images.
    """
    catalogue = plugins["backbone"]
    checked = catalogue.check(name, options)

    def make(generator: Generator) -> Backbone:
        return new_backbone(
            lambda: catalogue.create(name, checked, spec=spec), generator, device=device
        )

    make(Generator().manual_seed(0))
    return make

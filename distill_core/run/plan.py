"""The plan of a run: its components, looked up and checked before anything is made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from distill_core.artefact.stored import StoredAs, StoredLabels
from distill_core.artefact.stored_types import BITS
from distill_core.config.run_config import RunConfig
from distill_core.contracts.algorithm import item_draws
from distill_core.contracts.components import KeptDataset, Labeler, Representation
from distill_core.contracts.data import DataSpec, RawData, RealData
from distill_core.contracts.geometry import Placement, layout_fault
from distill_core.contracts.network import Backbone
from distill_core.contracts.stored_options import StoredOptions, shared
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.data.identity import Identity
from distill_core.data.kept_pictures import Reader
from distill_core.data.placeholder import outline_of, outlined
from distill_core.data.prepare import check_several, prepare
from distill_core.data.storage import most_in_memory, why_on_disk
from distill_core.engine.fresh_networks import new_backbone
from distill_core.hookspecs import KINDS
from distill_core.run.checks import refuse
from distill_core.run.network_checks import check_network
from distill_core.system.devices import pick_device
from distill_core.system.process import release_memory
from distill_core.system.waiting import told_if_slow
from registry import Builder, ContractError, OptionError, Plugins

LOG = logging.getLogger("distill")


@dataclass(frozen=True)
class Plan:
    """The components of a run.

    Attributes:
        config: names them, and has their options.
        device: where tensors live.
        builders: make the components, by kind; import strings are resolved.
        sizes: images per class that a budget in bytes buys, once `ipc_of` has found them.
    """

    config: RunConfig
    device: torch.device
    builders: Mapping[str, Builder]
    sizes: dict[DataSpec, float] = field(default_factory=dict)

    @staticmethod
    def of(config: RunConfig, plugins: Plugins, kinds: Collection[str] = ()) -> Plan:
        """Look up the components of a configuration.

        Args:
            config: a configuration from `config.resolve`.
            plugins: what is installed.
            kinds: the kinds that are needed; empty: all.

        Raises:
            ExplainedError: a component or the device does not exist, or options are wrong.
        """
        device = pick_device(config.device)
        builders = {
            kind.name: plugins[kind.name].builder(
                config.chosen(kind.option), config.options[kind.option]
            )
            for kind in KINDS
            if not kinds or kind.name in kinds
        }
        return Plan(config, device, builders)

    def make(self, kind: str, **runtime: Any) -> Any:
        """Make the component of a kind from its arguments at run time."""
        return self.builders[kind](**runtime)

    def representation(self, spec: DataSpec, ipc: float | None) -> Representation:
        """Make the representation.

        Raises:
            OptionError: it has no scales of the kind that is asked for, or nothing to learn beside
                them.
            ContractError: its layout does not hold together.
        """
        made: Representation = self.make("representation", spec=spec, **self.made_with(spec, ipc))
        if fault := layout_fault(getattr(made, "layout", None)):
            raise ContractError(
                f"{self.name('representation')} {fault}.",
                expected="items and cells that lie on its canvases, and cells for every class.",
                next="tell its author: `distill_core.testing` has the whole check.",
            )
        how = self.stored("representation")
        self._check_scales("repr", how, made)
        if how.stored == "float32":
            return made
        return StoredAs(made, how.stored, how.scales)

    def made_with(self, spec: DataSpec, ipc: float | None) -> dict[str, Any]:
        """Return what a representation is made with beside its options and the data.

        One that takes `item_draws` is told those of the algorithm.
        """
        if not self.builders["representation"].takes("item_draws"):
            return {"ipc": ipc}
        draws = self.call("algorithm", item_draws, self.config.options["algo"], spec)
        return {"ipc": ipc, "item_draws": draws}

    def labeler(self, placement: Placement) -> Labeler:
        """Make the labeler.

        Raises:
            OptionError: it has no numbers to store in the type that is asked for, no scales of the
                kind that is asked for, or nothing to learn beside them.
        """
        made: Labeler = self.make("labeler", placement=placement)
        how = self.stored("labeler")
        self._check_scales("labeler", how, made)
        if how.stored == "float32":
            return made
        if not any(each.is_floating_point() for each in made.state_dict().values()):
            raise OptionError(
                f"labeler '{self.config.labeler}' stores no numbers here, so that labeler.stored = "
                f"{how.stored} has no effect.",
                expected="labels that are learned or found, as numbers.",
                next="drop -o labeler.stored, or choose another --labeler.",
            )
        return StoredLabels(made, how.stored, how.scales)

    def synthetic(
        self, spec: DataSpec, representation: Representation, class_grid: Tensor | None = None
    ) -> SyntheticDataset:
        """Join a representation and the labeler; no grid: classes in the order of their numbers."""
        if class_grid is None:
            class_grid = torch.arange(spec.num_classes).reshape(representation.layout.grid_shape)
        placement = Placement(representation.layout, class_grid)
        labeler = self.labeler(placement)
        return SyntheticDataset(representation, labeler, placement=placement, spec=spec)

    def _check_scales(self, option: str, how: StoredOptions, made: nn.Module) -> None:
        if how.scales == "channel":
            return
        if how.stored not in BITS:
            raise OptionError(
                f"option {option}.scales = {how.scales} has no effect with {option}.stored = "
                f"{how.stored}, which has no scales.",
                expected=f"{option}.stored = {', '.join(BITS)} with scales.",
                next=f"drop -o {option}.scales, or pass -o {option}.stored with one of these.",
            )
        if how.scales == "learned" and not any(True for _ in made.parameters()):
            raise OptionError(
                f"option {option}.scales = learned: '{self.config.chosen(option)}' has no numbers "
                "that are learned, and its scales would be all that is.",
                expected=f"{option}.scales = channel or tensor, fitted to what is stored.",
                next=f"drop -o {option}.scales, or choose another --{option}.",
            )

    def stored(self, kind: str) -> StoredOptions:
        """Say how the numbers of the representation or of the labeler are stored."""
        return shared(self.builders[kind].options)

    def call(self, kind: str, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the component of a kind; exceptions carry its name."""
        return self.builders[kind].call(function, *args, **kwargs)

    def name(self, kind: str) -> str:
        """Return the name of the component of a kind, for messages."""
        return str(self.builders[kind])

    def outline(self) -> DataSpec | None:
        """Return what the dataset says of itself before its files are read; None: nothing.

        Raises:
            ContractError: it is no `DataSpec`.
        """
        found = self.call("dataset", outline_of, self.make("dataset"))
        if not (found is None or isinstance(found, DataSpec)):
            refuse(
                self.name("dataset"),
                f"returns {type(found).__name__} from `outline`",
                "a DataSpec, or no method `outline`",
            )
        return found

    def raw_data(self, tell: Callable[[str], None] = LOG.info) -> RawData:
        """Load the dataset as it is.

        Args:
            tell: called with lines about slow work.
        """
        dataset, call = self.make("dataset"), partial(self.call, "dataset")
        most = most_in_memory(self.config.data, self.device)
        return Reader(dataset, call, self.name("dataset"), most=most, tell=tell).read()

    def real_data(
        self,
        check: Callable[[Identity], None] = lambda identity: None,
        tell: Callable[[str], None] = LOG.info,
    ) -> RealData:
        """Load, split and whiten the dataset, and move it to the device or leave it on the disk.

        Args:
            check: raises if these are not the data that are meant; called before they are whitened.
            tell: called with lines about slow work.

        Raises:
            InputError: `check` refuses them, they are of one class, or they violate their contract.
            ContractError: they are not what was known of them before.
        """
        raw, options = self.raw_data(tell), self.config.data
        check_several(raw.spec)
        self._check_outline(raw.spec)
        # Images that are in memory now are as large as bytes, and are not written for this run.
        kept = isinstance(self.make("dataset"), KeptDataset)
        count = len(raw.train_images) + len(raw.test_images)
        with told_if_slow(tell, f"prepare  looks at {count:,} images: digests, whitening, doubles"):
            real = prepare(
                raw,
                options,
                seed=self.config.seed,
                device=self.device,
                check=check,
                on_disk=why_on_disk(raw, options, self.device) if kept else None,
            )
        del raw
        release_memory()
        return real

    def _check_outline(self, spec: DataSpec) -> None:
        known = self.outline()
        if known is not None and outlined(known) != outlined(spec):
            refuse(
                self.name("dataset"),
                f"outlines {outlined(known)} but loads {outlined(spec)}",
                "the same name, number of classes, shape and augmentations",
            )

    def networks(self, spec: DataSpec) -> Callable[[Generator], Backbone]:
        """Return a function that makes fresh networks; the first is made at once, to fail early.

        Raises:
            ExplainedError: the backbone cannot take images of this dataset, or breaks its contract.
        """
        builder = self.builders["backbone"]

        def make(generator: Generator) -> Backbone:
            return new_backbone(lambda: builder(spec=spec), generator, device=self.device)

        check_network(builder, make(Generator().manual_seed(0)), spec)
        return make

"""Judging by several networks: a row for each, by its whole name, such as "timm:resnet18"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator

from distill_core.config.networks import judges_of
from distill_core.config.run_config import RunConfig
from distill_core.contracts.data import DataSpec, RealData
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import seeded
from distill_core.distributed.ranks import SINGLE_PROCESS, Ranks
from distill_core.engine.forward import how_trained
from distill_core.evaluation.evaluate import AfterNet, Evaluator, Result
from distill_core.evaluation.judge import NAMES, Candidate, judge
from distill_core.evaluation.protocols import protocol
from distill_core.run.assemble import Assembly
from distill_core.run.plan import Plan
from distill_core.training.batch_of_one import check_batch
from registry import Plugins


@dataclass(frozen=True)
class Judges:
    """Networks that judge one result.

    Attributes:
        configs: for each row the run's configuration with its backbone.
        makers: make a fresh network of each row.
    """

    configs: Mapping[str, RunConfig]
    makers: Mapping[str, Callable[[Generator], Backbone]]

    @staticmethod
    def of(configs: Mapping[str, RunConfig], plugins: Plugins, spec: DataSpec) -> Judges:
        """Make one network of each row, to fail early.

        Raises:
            ExplainedError: a network does not exist, or cannot take these images.
        """
        plans = {row: Plan.of(config, plugins, {"backbone"}) for row, config in configs.items()}
        return Judges(configs, {row: plan.networks(spec) for row, plan in plans.items()})

    def check(self, spec: DataSpec, batch: int) -> None:
        """Refuse a network that cannot be trained on batches of this many images.

        Raises:
            InputError: the row is named.
        """
        for row, make in self.makers.items():
            what = f"the training of '{row}' on the result"
            check_batch(make(seeded(0)), spec.image_shape, batch, what)

    def evaluators(
        self,
        real: RealData,
        ranks: Ranks = SINGLE_PROCESS,
        after_net: AfterNet = lambda name, net, accuracy: None,
        split: str = "test",
    ) -> dict[str, Evaluator]:
        """Return what trains and measures the networks of each row.

        Args:
            real: the real data.
            ranks: share the networks of a row.
            after_net: called with row and training set, the number of a network, its accuracy.
            split: which images they are measured on, "test" or "validation".
        """

        def telling(row: str) -> AfterNet:
            return lambda name, net, accuracy: after_net(
                f"{row}, {NAMES.get(name, name)}", net, accuracy
            )

        return {
            row: Evaluator.of(
                config, real, self.makers[row], split=split, ranks=ranks, after_net=telling(row)
            )
            for row, config in self.configs.items()
        }

    def engines(self, device: torch.device) -> dict[str, str]:
        """Return how the networks of each row are trained on a device."""
        return {row: how_trained(make(seeded(0)), device) for row, make in self.makers.items()}

    def judge(
        self, candidate: Candidate, evaluators: Mapping[str, Evaluator]
    ) -> dict[str, dict[str, Result]]:
        """Train networks of every row on a result and on its controls."""
        return {
            row: judge(candidate, evaluators[row], config.evaluate)
            for row, config in self.configs.items()
        }


def check_outline(config: RunConfig, plugins: Plugins) -> None:
    """Refuse further judges that cannot work, before data are loaded, if their shape is known.

    Raises:
        ExplainedError: as `Judges.of`.
    """
    if configs := judges_of(config, plugins):
        spec = Plan.of(config, plugins, {"dataset"}).outline()
        if spec is not None:
            Judges.of(configs, plugins, spec)


def further_judges(assembly: Assembly, plugins: Plugins) -> Judges:
    """Return the judges of a run besides its own backbone, checked on its data.

    Raises:
        ExplainedError: a network cannot take the images, or not so few at a time.
    """
    config, spec = assembly.config, assembly.real.spec
    judges = Judges.of(judges_of(config, plugins), plugins, spec)
    count = len(assembly.placement.layout.items)
    recipe = protocol(config.evaluate, assembly.algorithm.recipe(), num_items=count)
    judges.check(spec, recipe.images_of_a_step(count))
    return judges

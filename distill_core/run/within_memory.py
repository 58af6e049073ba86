"""An engine within `--max-memory`, chosen by short trial steps of the run's own algorithm."""

from __future__ import annotations

from dataclasses import replace

from distill_core.contracts.algorithm import Algorithm, Estimate, Task
from distill_core.contracts.streams import Streams
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.engine.engine import Engine
from distill_core.engine.memory_limit import ACTIVATION_CACHES, stay_within
from distill_core.engine.memory_trial import MemoryTrial
from distill_core.run.plan import Plan
from distill_core.system.arithmetic import inner_precision


def within_memory(plan: Plan, task: Task, engine: Engine, synthetic: SyntheticDataset) -> Engine:
    """Choose how many images are processed at a time, by short trial steps."""
    trial = MemoryTrial(plan.device)

    def predict(tried: Engine) -> Estimate | None:
        trial_task = replace(task, engine=tried.recapturing())
        algorithm: Algorithm = plan.make("algorithm", task=trial_task)
        with inner_precision(plan.config):
            return trial.run(lambda: algorithm.estimate(synthetic, rng=Streams(plan.config.seed)))

    options = plan.config.engine
    asked = (engine.activation_cache,)
    caches = ACTIVATION_CACHES if options.activation_cache == "auto" else asked
    return stay_within(
        engine,
        options.max_memory or "",
        in_use=trial.in_use,
        predict=predict,
        largest=len(synthetic) if engine.splits else None,
        caches=() if engine.graphs else caches,
    )

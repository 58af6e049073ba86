"""A whole run that takes a fraction of a second: settings for tests of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from distill_core.artefact.saving import ArtefactWriter
from distill_core.config.discovery import discover
from distill_core.config.run_config import RunConfig, resolve
from distill_core.config.settings import merge
from distill_core.contracts.data import RealData
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.run.assemble import Assembly, assemble
from registry import Plugins

SMALL: dict[str, Any] = {
    "repr": "poster",
    "labeler": "poddl",
    "orderer": "poco",
    "algo": "ratbptt",
    "dataset": "shapes",
    "ipc": 0.8,
    "steps": 4,
    "evaluate": {"nets": 2, "steps": 4, "full_steps": 3, "every_nets": 1},
    "options": {
        "repr": {"patches": "2x5"},
        "orderer": {"similarity": "image"},
        "algo": {"window": 2, "total": 4, "batch": 8, "real_batch": 16, "inner_lr": 0.01},
        "dataset": {"classes": 6, "size": 8, "train_per_class": 6, "test_per_class": 3},
        "backbone": {"width": 4, "depth": 1},
    },
}


@cache
def installed() -> Plugins:
    """Return the installed plugins; looked for once."""
    return discover()


def small_config(**changes: Any) -> RunConfig:
    """Resolve the small settings with changes on top."""
    return resolve(merge(SMALL, changes), installed())


def small_assembly(**changes: Any) -> Assembly:
    """Assemble the small run."""
    return assemble(small_config(**changes), installed())


def save_artefact(
    run_dir: Path,
    synthetic: SyntheticDataset,
    *,
    real: RealData,
    recipe: Recipe,
    manifest: Mapping[str, Any],
) -> None:
    """Write an artefact once."""
    ArtefactWriter(run_dir, real).save(synthetic, recipe=recipe, manifest=manifest)

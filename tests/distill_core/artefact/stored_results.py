"""Small results of any representation and labeler, saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_core.config.run_config import resolve
from distill_core.run.assemble import Assembly, assemble
from distill_core.run.manifest import manifest
from tests.distill_core.small_run import SMALL, installed, save_artefact

# Decoders as small as images of 8x8 need them.
DECODERS: dict[str, dict[str, Any]] = {
    "basis": {"bases": 2},
    "gsdd": {"points": 4, "fit_steps": 2},
    "fred": {"coefficients": 5},
    "speed": {"tokens": 3, "dim": 4, "kept": 5, "fit_steps": 2},
    "ddif": {"width": 3, "fit_steps": 2},
}


def assembled(
    representation: str = "images",
    labeler: str = "soft",
    *,
    images: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Assembly:
    """Assemble a run of 6 classes of 3x8x8 images, by default with 2 images per class."""
    kept = ("orderer", "dataset", "backbone")
    options = {name: SMALL["options"][name] for name in kept}
    config = resolve(
        {
            **SMALL,
            "repr": representation,
            "labeler": labeler,
            "algo": "none",
            "ipc": 2,
            "options": {**options, "repr": dict(images or {}), "labeler": dict(labels or {})},
            **settings,
        },
        installed(),
    )
    return assemble(config, installed(), start=False)


def save(assembly: Assembly, folder: Path) -> Path:
    """Save a result; return where its stored numbers are."""
    record = manifest(assembly, installed(), step=0, seconds=0)
    recipe = assembly.algorithm.recipe()
    save_artefact(folder, assembly.synthetic, real=assembly.real, recipe=recipe, manifest=record)
    return folder / "stored.safetensors"

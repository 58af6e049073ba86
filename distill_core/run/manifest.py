"""The manifest: everything needed to trust or repeat a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from distill_core.artefact.count_storage import storage_of
from distill_core.config.run_config import RunConfig
from distill_core.hookspecs import KINDS
from distill_core.run.assemble import Assembly
from distill_core.run.notices import Notice
from distill_core.system.arithmetic import arithmetic_of
from distill_core.system.versions import hardware, versions
from registry import Kind, Plugins


def manifest(
    assembly: Assembly,
    plugins: Plugins,
    *,
    step: int,
    seconds: float,
    results: dict[str, Any] | None = None,
    best_step: int | None = None,
    processes: int = 1,
    divergences: Sequence[Mapping[str, Any]] = (),
    peak_memory: int | None = None,
    commands: Sequence[Sequence[str]] = (),
    notices: Sequence[Notice] = (),
) -> dict[str, Any]:
    """Collect the record of a run.

    Args:
        assembly: the parts.
        plugins: where the components come from.
        step: outer steps done.
        seconds: wall-clock seconds spent in them.
        results: of the evaluation, once it is done.
        best_step: the step whose state was kept, if the validation split chose it.
        processes: how many processes shared each outer step, at the end.
        divergences: when and why the run went back and halved its learning rates.
        peak_memory: most bytes that the process used until the end of the outer steps.
        commands: the words of the command lines that started and resumed it.
        notices: what is odd about its course or its results.
    """
    config, real, ema = assembly.config, assembly.real, assembly.ema
    grid = assembly.placement.class_grid
    names = real.spec.class_names
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(assembly.device) | _arithmetic(config, assembly.device),
        "components": {kind.option: _component(plugins, kind, assembly) for kind in KINDS},
        "made_with": assembly.made_with,
        "commands": [list(words) for words in commands],
        "seed": config.seed,
        "dataset_fingerprint": real.fingerprint,
        "dataset_content": real.content,
        "data_notes": list(real.notes),
        "class_order": [[names[k] for k in row] for row in grid.tolist()],
        "class_order_notes": assembly.notes,
        "engine": assembly.engine.describe(),
        "algorithm_notes": dict(assembly.algorithm.notes()),
        "budget": assembly.synthetic.budget().as_dict(),
        "storage": storage_of(assembly.synthetic, real.whitening).as_dict(),
        "outer_steps": step,
        "best_step": best_step,
        "averaged": None if ema is None else f"moving average, run.ema = {ema:g}",
        "processes": processes,
        "seconds": round(seconds, 3),
        "divergences": list(divergences),
        "peak_memory": peak_memory,
        "notices": [notice._asdict() for notice in notices],
        "results": results or {},
    }


def _arithmetic(config: RunConfig, device: torch.device) -> dict[str, str]:
    said = arithmetic_of(config, device)
    return {"arithmetic": said} if said else {}


def _component(plugins: Plugins, kind: Kind, assembly: Assembly) -> dict[str, Any]:
    found = assembly.config.component(kind.option)
    provider = plugins[kind.name].entry(found["name"]).provider
    named = assembly.config.named(kind.option)
    return {
        "name": found["name"],
        **({} if named == found["name"] else {"named": named}),
        "plugin": provider.entry_point,
        "distribution": provider.distribution,
        "version": provider.version,
        "options": found["options"],
    }

"""What a user reads after a kill, before anything is resumed or repaired."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file

from distill_core import load
from distill_core.artefact.manifest import read_manifest
from distill_core.commands.evaluate import find_candidate
from distill_core.commands.verify import verify
from distill_core.config.discovery import collect_presets, discover
from distill_core.config.run_config import resolve
from distill_core.contracts.data import RealData
from distill_core.export import export
from distill_core.report.compare import compare
from distill_core.report.page import write_report
from distill_core.report.record import read_run
from distill_core.run.assemble import load_real
from distill_core.run.directory import settings_of

PLUGINS = discover()
PRESETS = collect_presets(PLUGINS)
PLUGIN = "own"  # the name of the new plugin
PLUGIN_FILES = 5


class LostError(Exception):
    """Something that could be read before a kill cannot be read after it."""


class Seen(NamedTuple):
    """What a run directory has shown: outer steps of its result, and whether it is judged."""

    step: int = -1
    judged: bool = False


def read_run_dir(run_dir: Path, before: Seen, place: Path) -> Seen:
    """Load, verify, export, judge, compare and report what a run directory holds.

    Args:
        run_dir: the directory, which is not changed.
        before: what it showed before.
        place: a folder for what is written.

    Raises:
        LostError: it shows less than before.
        ExplainedError: a reader refuses it.
    """
    if not (run_dir / "manifest.json").exists():
        if before.step >= 0:
            raise LostError(f"{run_dir} has lost its manifest")
        return before
    manifest = read_manifest(run_dir)
    now = Seen(int(manifest["outer_steps"]), bool(manifest["results"]))
    if now < before:
        raise LostError(f"{run_dir}: {now} after {before}")
    if not load(run_dir).verified:
        raise LostError(f"{run_dir}: not verified")
    if failed := [check for check in verify(run_dir) if not check.passed]:
        raise LostError(f"{run_dir}: {failed}")
    shutil.rmtree(place, ignore_errors=True)
    export(run_dir, place / "export", "tensors")
    config = resolve(settings_of(run_dir), PLUGINS)
    candidate, _ = find_candidate(run_dir, config, PLUGINS, _real(config.model_dump_json()))
    if candidate.step < now.step:  # it may be running, and have gone on
        raise LostError(f"{run_dir}: step {candidate.step} would be judged, not {now.step}")
    if now.judged:
        record = read_run(run_dir)
        compare([record], PRESETS)
        write_report([record], PRESETS, place / "report.html")
    return now


@cache
def _real(config: str) -> RealData:
    return load_real(resolve(json.loads(config), PLUGINS), PLUGINS)


def read_page(page: Path, before: bool) -> bool:
    """Return whether there is a report; it must be whole, and stay."""
    if page.exists() and not page.read_text(encoding="utf-8").endswith("</html>\n"):
        raise LostError(f"{page} is not whole")
    if before and not page.exists():
        raise LostError(f"{page} is gone")
    return page.exists()


def read_export(folder: Path, before: bool) -> bool:
    """Return whether there is an export; it must be whole, and stay."""
    if folder.exists():
        load_file(folder / "tensors.safetensors")
        load_file(folder / "whitening.safetensors")
        json.loads((folder / "info.json").read_text())
    elif before:
        raise LostError(f"{folder} is gone")
    return folder.exists()


def read_plugin(folder: Path) -> bool:
    """Return whether there is a new plugin; it must be whole."""
    target = folder / f"distill-{PLUGIN}"
    if target.exists() and sum(path.is_file() for path in target.rglob("*")) != PLUGIN_FILES:
        raise LostError(f"{target} is not whole")
    return target.exists()

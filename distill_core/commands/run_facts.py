"""What is printed of a run before its first step."""

from __future__ import annotations

import torch
from rich.console import Console

from distill_core import __version__
from distill_core.artefact.count_storage import storage_of
from distill_core.config.labels import fixing
from distill_core.config.run_config import RunConfig
from distill_core.layout.class_order import note_lines
from distill_core.run.assemble import Assembly
from distill_core.system.arithmetic import arithmetic_of
from distill_core.system.devices import described
from distill_core.system.process import Runtime
from distill_core.system.units import counted


def print_facts(console: Console, assembly: Assembly, processes: int) -> None:
    """Print data, pixels, budget, class order and engine of a run."""
    config, layout = assembly.config, assembly.placement.layout
    real = assembly.real
    together = f", {processes} processes" if processes > 1 else ""
    console.print(
        f"distill {__version__}: {config.repr} x {config.labeler} x {config.orderer} x "
        f"{config.algo} on {config.data_name} ({assembly.device}{together})\n"
        f"data     {len(real.train)} training, {len(real.validation)} validation, "
        f"{len(real.test)} test images; {real.spec.num_classes} classes"
    )
    for note in real.notes:
        console.print(f"data     {note}", markup=False)
    console.print(
        f"pixels   {_canvases(assembly)}, {len(layout.items)} training "
        f"images of {real.spec.image_shape[1]}x{real.spec.image_shape[2]}\n"
        f"budget   {assembly.synthetic.budget()}\n"
        f"storage  {storage_of(assembly.synthetic, real.whitening)}"
    )
    if fixed := _fixed_labels(assembly):
        console.print(f"labels   {fixed}", markup=False)
    for line in note_lines(assembly.notes):
        console.print(f"order    {line}", markup=False)
    console.print(f"engine   {assembly.engine.describe()}", markup=False)
    for name, note in assembly.algorithm.notes().items():
        console.print(f"{config.algo:<8} {name}: {note}", markup=False)


def _canvases(assembly: Assembly) -> str:
    """Say how large the canvases are and, if other numbers are stored, how many of these."""
    layout, channels = assembly.placement.layout, assembly.real.spec.image_shape[0]
    h, w = layout.canvas_hw
    canvases = f"{counted(layout.num_canvases, 'canvas', 'canvases')} of {h}x{w}"
    shown = layout.num_canvases * channels * h * w
    stored = round(assembly.synthetic.budget().pixels * channels)
    if stored == shown:
        return canvases
    return f"{stored:,} stored numbers, decoded to {canvases} ({shown:,} numbers)"


def _fixed_labels(assembly: Assembly) -> str:
    """Say which options fix the labels, where the algorithm would refuse others; else empty."""
    config, algorithm = assembly.config, assembly.algorithm
    found = fixing(config.options["labeler"])
    if not found or not algorithm.learns or algorithm.learns_labels:
        return ""
    return f"{' and '.join(found)}, since algorithm '{config.algo}' learns no labels"


def machine_line(config: RunConfig, device: torch.device, machine: Runtime) -> str:
    """Return the line of the log about device, arithmetic and threads."""
    how = arithmetic_of(config, device)
    return f"machine  {described(device, config.device)}, {how}{how and ', '}{machine}"

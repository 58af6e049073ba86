"""`distill bench`: what an outer step of each preset costs on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from distill_core.cli.tables import print_json, print_table
from distill_core.config.discovery import collect_presets, discover
from registry import ExplainedError

if TYPE_CHECKING:
    import torch

    from distill_core.commands.bench import Line

HEADERS = ("preset", "engine", "seconds", "of these", "memory", "processes")
PATHS = ("auto", "kernels", "autograd")


@click.command()
@click.option("--preset", "names", multiple=True, help="A preset; can be given again.")
@click.option(
    "--quick/--all", default=True, help="One preset of each kind of cost [default], or every one."
)
@click.option(
    "--path",
    "paths",
    multiple=True,
    type=click.Choice(PATHS),
    help="engine.path; can be given again [default: auto and autograd].",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with everything measured.")
def command(
    names: tuple[str, ...], quick: bool, paths: tuple[str, ...], device: str, as_json: bool
) -> None:
    """Show what an outer step of each preset costs on this machine.

    Seconds and memory are extrapolated from short steps on noise in the shape of the dataset, so
    nothing is downloaded. Memory is what a step needs in addition to the process, which would
    also hold the data; on a card it includes the driver's part. The last column is the speed of
    several single-thread processes on the CPU, relative to the one of this line.
    """
    plugins = discover()
    found = collect_presets(plugins)
    named = {name: found[name] for name in names}

    from distill_core.commands.bench import bench, selection
    from distill_core.system.devices import described, pick_device

    # Before any preset, so that a missing device is reported once and not for each of them.
    place = pick_device(device)
    if named:
        chosen = named
    elif quick:
        chosen = {name: found[name] for name in selection(found, plugins)}
    else:
        chosen = dict(found)
    lines: list[Line] = []
    for line in bench(chosen, plugins, paths or ("auto", "autograd"), device=device):
        if isinstance(line, ExplainedError):
            if names:
                raise line
            click.echo(line, err=True)
            continue
        lines.append(line)
        click.echo(f"{line.preset}: {line.seconds:.3g} s", err=True)
    if as_json:
        _print_json(lines, place)
    else:
        title = f"One outer step on {described(place, device)} (extrapolated)"
        print_table(HEADERS, [row(line) for line in lines], title=title)


def row(line: Line) -> tuple[str, ...]:
    """Return the cells of `HEADERS`."""
    from distill_core.system.units import counted, size_text

    phases = ", ".join(f"{name} {seconds:.3g}" for name, seconds in line.phases.items())
    several = f"{line.processes}: {line.speed_up:.2f} times" if line.processes else ""
    engine = f"{line.engine}, {counted(line.threads, 'thread')}"
    if line.device != "cpu":
        engine = f"{line.engine} on {line.device}"
    memory = f"{size_text(line.memory)} beside {size_text(line.process)}"
    return (line.preset, engine, f"{line.seconds:.3g}", phases, memory, several)


def _print_json(lines: list[Line], device: torch.device) -> None:
    from distill_core.system.versions import hardware, versions

    found = [asdict(line) for line in lines]
    print_json({"versions": versions(), "hardware": hardware(device), "lines": found})

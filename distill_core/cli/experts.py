"""`distill experts`: expert trajectories ahead of the runs that need them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import click

from distill_core.config.discovery import discover, preset_settings
from registry import OptionError

SETTINGS = (
    ("algo", str, "Algorithm that is to use them."),
    ("dataset", str, "Dataset."),
    ("backbone", str, "Network to distill with."),
    ("seed", int, "Seed, the one of the runs."),
    ("device", str, "auto, cpu, cuda, cuda:1, mps."),
)


def _with_settings(function: Any) -> Any:
    for name, kind, text in reversed(SETTINGS):
        function = click.option(f"--{name}", type=kind, help=text)(function)
    return function


@click.command()
@_with_settings
@click.option("--config", type=click.Path(path_type=Path), help="TOML file, such as a run.toml.")
@click.option("--preset", help="A configuration from `distill presets`.")
@click.option("--count", type=click.IntRange(min=1), help="How many; for -o algo.experts=N.")
@click.option("-o", "overrides", multiple=True, metavar="KIND.FIELD=VALUE", help="One option.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: whose experts are there now.")
def command(
    *,
    config: Path | None,
    preset: str | None,
    count: int | None,
    overrides: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Train networks on the real data, and keep their trajectories in the cache.

    A run makes those that it misses itself. What is there already is kept, so this can be ended
    at any time and called again, and several may work at the same time.
    """
    from distill_core.config.run_config import resolve
    from distill_core.config.settings import merge, parse_overrides, read_settings

    if config and preset:
        raise OptionError(
            "--config and --preset were both given.",
            expected="one of them.",
            next="leave one out; `distill presets NAME` prints a preset as a file.",
        )
    plugins = discover()
    weaker = read_settings(config) if config else {}
    weaker = preset_settings(preset, plugins) if preset else weaker
    chosen = {name: value for name, value in flags.items() if value is not None}
    more = [] if count is None else [f"algo.experts={count}"]
    stronger = merge(chosen, parse_overrides([*overrides, *more]))
    resolved = resolve(merge(weaker, stronger), plugins, needed=("algo",))

    from distill_core.contracts.algorithm import Algorithm
    from distill_core.run.assemble import assemble_algorithm
    from distill_core.system.process import prepare

    say = partial(click.echo, err=as_json)
    say(f"machine  {prepare(resolved)}")
    say(f"loading  {resolved.dataset}")
    algorithm = assemble_algorithm(resolved, plugins)
    if type(algorithm).prepare is Algorithm.prepare:
        raise OptionError(
            f"algorithm '{resolved.algo}' uses no expert trajectories.",
            expected="one that matches the trajectories of experts, for example --algo mtt.",
            next="call `distill run` at once; this algorithm needs no preparation.",
        )
    algorithm.prepare(say)
    say("experts  all are there")
    if as_json:
        record = resolved.model_dump(mode="json", include={"algo", "dataset", "backbone", "seed"})
        options = {
            kind: resolved.component(kind)["options"] for kind in ("algo", "dataset", "backbone")
        }
        click.echo(json.dumps({**record, "options": options}, indent=1, default=str))

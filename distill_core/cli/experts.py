"""`distill experts`: train expert trajectories before the runs that need them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from distill_core.cli.choices import base_settings, own_settings, with_settings, with_sources
from distill_core.cli.tables import print_json
from distill_core.config.discovery import discover
from registry import OptionError

SETTINGS = ("algo", "dataset", "backbone", "seed", "device")


@click.command()
@with_settings(SETTINGS)
@with_sources
@click.option("--count", type=click.IntRange(min=1), help="How many; for -o algo.experts=N.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: the settings these experts belong to."
)
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

    A run trains any that are missing. Finished ones are kept, so you can stop this command at any
    time and start it again, and several may work at the same time.
    """
    from distill_core.config.effects import check_effects, given_by_user
    from distill_core.config.run_config import resolve
    from distill_core.config.settings import merge

    plugins = discover()
    more = [] if count is None else [f"algo.experts={count}"]
    stronger = own_settings(flags, [*overrides, *more])
    weaker = base_settings(config, preset, plugins)
    resolved = resolve(merge(weaker, stronger), plugins, needed=("algo",))
    check_effects(resolved, *given_by_user(weaker, stronger, preset=preset))

    from distill_core.contracts.algorithm import Algorithm
    from distill_core.run.assemble import assemble_algorithm
    from distill_core.system.process import prepare

    tell = partial(click.echo, err=as_json)
    tell(f"machine  {prepare(resolved)}")
    tell(f"loading  {resolved.data_name}")

    def check(algorithm: Algorithm) -> None:
        if type(algorithm).prepare is Algorithm.prepare:
            raise OptionError(
                f"algorithm '{resolved.algo}' uses no expert trajectories.",
                expected="one that matches the trajectories of experts, for example --algo mtt.",
                next="start `distill run`; this algorithm needs no preparation.",
            )

    assemble_algorithm(resolved, plugins, check).prepare(tell)
    tell("experts  all are there")
    if as_json:
        record = resolved.model_dump(mode="json", include={"algo", "dataset", "backbone", "seed"})
        options = {
            kind: resolved.component(kind)["options"] for kind in ("algo", "dataset", "backbone")
        }
        print_json({**record, "options": options}, default=str)

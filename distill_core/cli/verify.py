"""`distill verify`: an artefact against its manifest."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distill_core.cli.choices import changes, packages_of
from distill_core.cli.errors import MISTAKE
from distill_core.cli.tables import print_json, print_table
from distill_core.system.waiting import told_if_slow
from registry import OptionError

if TYPE_CHECKING:
    from distill_core.commands.verify import Check


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--evaluate", "again", is_flag=True, help="Also train networks, as the run did.")
@click.option(
    "-o", "overrides", multiple=True, metavar="dataset.FIELD=VALUE", help="Where the data are now."
)
def command(run: Path, as_json: bool, again: bool, overrides: tuple[str, ...]) -> int:
    """Check the result in RUN against its manifest: a folder, gallery:NAME or hf://user/name.

    Hashes of all files, budget and bytes counted again, the class order, labels and versions; no
    code of a plugin runs. With --evaluate it does: the numbers must decode to images, those beside
    them if there are any and the run's plugins are installed, and fresh networks are trained and
    must agree with the recorded accuracy within its spread; -o says where the run's data are, if
    they were moved.
    Exit code 0: everything holds; 2: something does not.
    """
    from distill_core.artefact.last_set import current
    from distill_core.artefact.manifest import read_manifest
    from distill_core.artefact.places import located

    if overrides and not again:
        raise OptionError(
            "-o has no effect without --evaluate: nothing else reads the data.",
            expected="--evaluate with -o, or neither.",
            next="add --evaluate, or leave -o out.",
        )
    named, run = run, located(run)
    read_manifest(current(run))  # a wrong path is noticed before anything heavy is imported
    with told_if_slow(partial(click.echo, err=True), "verify   checks the result"):
        from distill_core.commands.verify import verify

        checks = verify(run)
        if again and all(check.passed for check in checks):
            checks.append(_decoding(run))
            if checks[-1].passed:
                checks.append(_evaluation(run, overrides))
    passed = all(check.passed for check in checks)
    if as_json:
        found = {"run": str(named), "verified": passed, "checks": [asdict(c) for c in checks]}
        print_json(found)
    else:
        rows = [(check.name, "yes" if check.passed else "NO", check.found) for check in checks]
        print_table(("claim", "holds", "found"), rows, title=str(named))
    return 0 if passed else MISTAKE


def _decoding(run: Path) -> Check:
    from distill_core.artefact.last_set import current
    from distill_core.commands.verify_decoded import check_decoded
    from distill_core.config.discovery import discover
    from distill_core.run.directory import settings_of

    return check_decoded(run, settings_of(current(run)), discover())


def _evaluation(run: Path, overrides: tuple[str, ...]) -> Check:
    from distill_core.artefact.last_set import current
    from distill_core.artefact.manifest import read_manifest
    from distill_core.commands.evaluate import find_candidate
    from distill_core.commands.verify import Check, within_spread
    from distill_core.config.discovery import discover
    from distill_core.config.places import places_of
    from distill_core.config.run_config import resolve
    from distill_core.config.settings import merge
    from distill_core.evaluation.evaluate import Evaluator
    from distill_core.evaluation.judge import judge
    from distill_core.run.checkpoint import data_of
    from distill_core.run.directory import settings_of
    from distill_core.run.known_data import only
    from distill_core.run.plan import Plan
    from distill_core.system.process import prepare

    recorded = read_manifest(run).get("results", {}).get("distilled")
    if not recorded:
        return Check("evaluation", False, "the run has recorded none: it was not finished")
    plugins = discover()
    settings = settings_of(current(run))  # a run that is resumed may have others by now
    with packages_of(run):  # of the data and the networks; the images need no others
        changed = changes(overrides, {}, tuple(places_of(resolve(settings, plugins, needed=()))))
        config = resolve(merge(settings, changed), plugins, needed=())
    judging = config.evaluate.model_copy(update={"controls": False})
    device = config.device if config.device == "cpu" else "auto"  # cards here are other ones
    config = config.model_copy(update={"evaluate": judging, "device": device})
    prepare(config)
    plan = Plan.of(config, plugins, {"dataset", "backbone"})
    real = plan.real_data(only(data_of(run, partial(click.echo, err=True)), run, config))
    candidate, _ = find_candidate(run, config, plugins, real)
    evaluator = Evaluator.of(config, real, plan.networks(real.spec))
    result = judge(candidate, evaluator, config.evaluate)["distilled"]
    return within_spread(recorded, result.accuracies)

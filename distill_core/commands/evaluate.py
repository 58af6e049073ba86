"""Judging a run again, after it or during it: several backbones, each with its controls.

Reads the real data of the run and its artefact, or its checkpoint if there is no artefact yet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from distill_core.artefact.artefact import load
from distill_core.artefact.count_storage import storage_of
from distill_core.artefact.distilled import Distilled
from distill_core.artefact.last_set import read_set
from distill_core.artefact.manifest import read_manifest
from distill_core.artefact.result_file import has_result
from distill_core.artefact.storage import Storage
from distill_core.commands.evaluation_record import (
    CrossEvaluation,
    NotKeptError,
    check_place,
    record,
)
from distill_core.commands.judges import Judges
from distill_core.commands.judging_pace import Pace
from distill_core.config.run_config import RunConfig, resolve
from distill_core.contracts.data import RealData
from distill_core.contracts.synthetic import Batch
from distill_core.data.identity import Identity
from distill_core.distributed.ranks import SINGLE_PROCESS, Ranks
from distill_core.evaluation.evaluate import SPLITS, AfterNet, Result
from distill_core.evaluation.judge import Candidate, judge
from distill_core.evaluation.scores import check_metrics, check_split, measure_scores
from distill_core.run.assemble import assemble, load_real
from distill_core.run.checkpoint import data_of, has_checkpoint, load_checkpoint
from distill_core.run.directory import check_files, settings_of
from distill_core.run.known_data import data_of_artefact, data_of_state, only
from distill_core.run.loop import OuterLoop
from distill_core.run.validation import candidate_of, compared_bytes
from distill_core.system.devices import pick_device
from distill_core.system.waiting import told_if_slow
from registry import EnvironmentFault, InputError, OptionError, Plugins, UnknownNameError


def cross_evaluate(
    run_dir: Path,
    configs: Mapping[str, RunConfig],
    plugins: Plugins,
    *,
    metrics: Collection[str] = (),
    split: str = "test",
    after_net: AfterNet = lambda name, net, accuracy: None,
    tell: Callable[[str], None] = lambda line: None,
) -> CrossEvaluation:
    """Train fresh networks of every backbone on the result and on its controls.

    Args:
        run_dir: a finished, running or interrupted run.
        configs: by a name for each row: the run's configuration with another backbone.
        plugins: what is installed.
        metrics: "lrs", "ars": also measure DD-Ranking's scores; on the test split alone.
        split: "test", or "validation" to choose how networks are trained before the test images
            are looked at. Reports, cards and comparisons show test accuracies, so that nothing is
            written then.
        after_net: called with row and column, the number of the network and its accuracy.
        tell: called with a line on how the networks of each row are trained, with notes on the
            data, and where judging takes long with how long, and a word now and then.

    Returns:
        Results and scores. Those of the test split are also written to a file in the run's folder
        "evaluation", and the means to one line of its metrics.jsonl.

    Raises:
        UnknownNameError: a metric or a split is unknown.
        OptionError: scores are asked for on the validation split, which chooses their rates.
        InputError: there is nothing to judge, a file is damaged, or the data have changed.
        EnvironmentFault: the folder cannot be written.
        NotKeptError: it could not be written in the end; the error has what was found.
    """
    check_metrics(metrics)
    check_choice(split, metrics)
    check_files(run_dir)
    first = next(iter(configs.values()))
    device = pick_device(first.device)
    check_there(run_dir)
    if split == "test":
        check_place(run_dir)
    real = load_real(first, plugins, only(data_of(run_dir, tell), run_dir, first))
    check_split(real, metrics, split)
    for note in real.notes:
        tell(f"data: {note}")
    judges = Judges.of(configs, plugins, real.spec)
    engines = judges.engines(device)
    for row, how in engines.items():
        tell(f"{row}: networks by {how}")
    candidate, storage = find_candidate(run_dir, first, plugins, real)
    recipe = candidate.training_recipe(first.evaluate)
    judges.check(real.spec, recipe.images_of_a_step(len(candidate.batch.images)))
    pace = Pace(tell, after_net)
    evaluators = judges.evaluators(real, after_net=pace.after_net, split=split)
    results, scores = {}, {}
    for row, config in configs.items():
        pace.begin(f"{row}: ", candidate, config.evaluate)
        with told_if_slow(tell, f"{row}: trains and tests networks"):
            results[row] = judge(candidate, evaluators[row], config.evaluate)
            if metrics:
                scores[row] = measure_scores(candidate, evaluators[row], config.evaluate, metrics)
    found = CrossEvaluation(results, scores, engines, storage)
    if split == "test":
        try:
            record(run_dir, configs, found, metrics, candidate.step)
        except EnvironmentFault as fault:
            raise NotKeptError(fault, found) from fault
    return found


def judge_again(
    run_dir: Path,
    judges: Judges,
    candidate: Candidate,
    real: RealData,
    *,
    ranks: Ranks = SINGLE_PROCESS,
    after_net: AfterNet = lambda name, net, accuracy: None,
) -> dict[str, dict[str, Result]]:
    """Judge what a run has just distilled by further networks; recorded as by `cross_evaluate`.

    Args:
        run_dir: the run.
        judges: the networks; with none, nothing is done.
        candidate: what was distilled.
        real: the real data.
        ranks: share the networks; only rank 0 writes.
        after_net: as of `Judges.evaluators`.
    """
    results = judges.judge(candidate, judges.evaluators(real, ranks, after_net))
    if results and ranks.is_main:
        engines = judges.engines(real.train.device)
        found = CrossEvaluation(results, {}, engines)
        record(run_dir, judges.configs, found, (), candidate.step)
    return results


def check_choice(split: str, metrics: Collection[str]) -> None:
    """Refuse a split that does not exist, and scores on the images that choose their rates.

    Raises:
        UnknownNameError: the split is unknown.
        OptionError: scores are asked for on the validation split.
    """
    if split not in SPLITS:
        raise UnknownNameError("split", split, known=SPLITS, next="correct --split.")
    if split != "test" and metrics:
        raise OptionError(
            f"--metrics {','.join(metrics)} cannot be measured on the {split} split.",
            expected="the test split: the validation split chooses the scores' learning rates.",
            next=f"leave out --split {split}, or --metrics.",
        )


def check_there(run_dir: Path) -> None:
    """Refuse a run that has saved nothing yet.

    Raises:
        InputError: it has neither an artefact nor a checkpoint.
    """
    if not (has_result(run_dir) or has_checkpoint(run_dir)):
        raise InputError(
            f"{run_dir} has nothing to evaluate yet.",
            expected="a result or a checkpoint, which a run writes from time to time.",
            next="wait for its first checkpoint (run.checkpoint_minutes), or let it finish.",
        )


def find_candidate(
    run_dir: Path, config: RunConfig, plugins: Plugins, real: RealData
) -> tuple[Candidate, Storage]:
    """Return what a run has distilled so far, from its artefact or from its checkpoint, and what
    it stores.

    Args:
        run_dir: the run.
        config: its configuration.
        plugins: what is installed.
        real: its data.

    Raises:
        InputError: both are missing, or the run used other data than `real`.
    """
    check_there(run_dir)
    device = real.train.device
    if has_result(run_dir):

        def read(check: Callable[[], None]) -> tuple[Distilled, int]:
            distilled = load(run_dir)
            only(data_of_artefact(run_dir), run_dir, config)(Identity.of(real))
            step = _step(run_dir)
            check()
            return distilled, step

        distilled, step = read_set(run_dir, read)
        batch = Batch(distilled.images.to(device), distilled.labels.to(device))
        most = compared_bytes(config, distilled.storage, is_pixels=distilled.is_pixels)
        candidate = Candidate(batch, distilled.recipe, distilled.budget.ipc, step, most)
        return candidate, distilled.storage
    config = resolve(settings_of(run_dir), plugins).model_copy(update={"device": config.device})
    state = load_checkpoint(run_dir, config, plugins=plugins)
    only(data_of_state(state), run_dir, config)(Identity.of(real))
    # Nothing is distilled here, so the memory of an outer step need not be tried.
    engine = config.engine.model_copy(update={"max_memory": None})
    config = config.model_copy(update={"engine": engine})
    order = {"class_grid": state["class_grid"], "notes": state["notes"]}
    assembly = assemble(config, plugins, **order, real=real, start=False)
    loop = OuterLoop(assembly, run_dir)
    loop.load_state_dict(state)
    storage = storage_of(loop.result.synthetic, real.whitening)
    return candidate_of(loop.result, step=int(state["step"])), storage


def _step(run_dir: Path) -> int:
    try:
        return int(read_manifest(run_dir).get("outer_steps", 0))
    except (InputError, ValueError, TypeError):
        return 0  # the record of a judgement does not need it

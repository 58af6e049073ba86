"""`distill_core.distill`: a run from Python, in a script or a notebook.

The same engine, files and checks as `distill run`; nothing is printed unless asked for.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_core import session
from distill_core.config import RunConfig, merge, resolve
from distill_core.data import AUGMENTATIONS
from distill_core.discovery import discover, preset_settings
from distill_core.hookspecs import KINDS
from distill_core.option_sections import SECTIONS
from distill_core.outcome import Outcome
from distill_core.own_data import NAME, plugin_of, raw_data
from distill_core.run_directory import check_new
from registry import OptionError, UnknownNameError

LONG = {kind.name: kind.option for kind in KINDS}  # "algorithm" for "algo"


def distill(
    *,
    dataset: Any = None,
    test: Any = None,
    class_names: Sequence[str] | None = None,
    augmentations: Sequence[str] = AUGMENTATIONS,
    representation: str | None = None,
    labeler: str | None = None,
    orderer: str | None = None,
    algorithm: str | None = None,
    backbone: str | None = None,
    ipc: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    preset: str | None = None,
    options: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> Outcome:
    """Distill a dataset and judge the result; what is not given is as for `distill run`.

    Args:
        dataset: a name, or images of your own: `RawData`, (images, labels), or a torch Dataset;
            see `own_data.raw_data`.
        test: test images of your own; default: a fifth of every class.
        class_names: names of your own classes, in label order.
        augmentations: operations that keep the labels of your own images.
        representation, labeler, orderer, algorithm, backbone: names, as `distill list` shows.
        ipc: pixel budget in images per class.
        steps: outer steps.
        minutes: stop after so many minutes, if that comes first.
        seed: seed of every random draw.
        device: auto, cpu, cuda, cuda:1, mps.
        preset: a configuration from `distill presets`, which the other arguments change.
        options: as `-o` on the command line: {"algo.window": 60} or {"algo": {"window": 60}}.
        out: run directory; default: none is kept, and `Outcome.save` keeps the result.
        overwrite: delete the run that is in `out`.
        verbose: print what `distill run` prints, with a progress bar in terminals.

    Returns:
        The result, with accuracy, poster and dataset; it can be saved, judged, and trained on.

    Raises:
        ExplainedError: as `distill run` says; UnknownNameError, OptionError and InputError are
            mistakes in what was passed.
        KeyboardInterrupt: Ctrl-C; with `out`, the run can be resumed.
    """
    extra = []
    if dataset is not None and not isinstance(dataset, str):
        raw = raw_data(dataset, test, class_names=class_names, augmentations=augmentations)
        extra, dataset = [plugin_of(raw)], NAME
    elif test is not None or class_names is not None:
        raise OptionError(
            "test and class_names are for images of your own, but dataset is a name.",
            expected="dataset=(images, labels), for example.",
            next="leave them out.",
        )
    plugins = discover(extra=extra)
    given = {
        "dataset": dataset,
        "repr": representation,
        "labeler": labeler,
        "orderer": orderer,
        "algo": algorithm,
        "backbone": backbone,
        "ipc": ipc,
        "steps": steps,
        "minutes": minutes,
        "seed": seed,
        "device": device,
    }
    stronger = merge({k: v for k, v in given.items() if v is not None}, nested(options or {}))
    config = resolve(merge(preset_settings(preset, plugins) if preset else {}, stronger), plugins)
    if out is not None:
        check_new(Path(out), overwrite=overwrite)
        results = _run(config, plugins, Path(out), overwrite=overwrite, verbose=verbose)
        return Outcome(Path(out), config, plugins, results)
    run_dir = Path(tempfile.mkdtemp(prefix="distill-"))
    try:
        results = _run(config, plugins, run_dir, overwrite=False, verbose=verbose)
        outcome = Outcome(run_dir, config, plugins, results)
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    weakref.finalize(outcome, shutil.rmtree, run_dir, ignore_errors=True)
    return outcome


def _run(config: RunConfig, plugins: Any, run_dir: Path, **how: bool) -> Any:
    try:
        return session.run(
            config,
            plugins,
            run_dir,
            resume=False,
            overwrite=how["overwrite"],
            quiet=not how["verbose"],
        )
    except session.Interrupted:
        raise KeyboardInterrupt("the run was ended; what `out` names can be resumed") from None


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Turn {"algo.window": 60} or {"algo": {"window": 60}} into a configuration.

    Raises:
        OptionError: a name has no kind before it.
        UnknownNameError: there is no such kind of option.
    """
    settings: dict[str, Any] = {}
    kinds = [kind.option for kind in KINDS]
    for key, value in options.items():
        prefix, dot, name = key.partition(".")
        prefix = LONG.get(prefix, prefix)
        if not dot and not isinstance(value, Mapping):
            raise OptionError(
                f"options[{key!r}] has no effect.",
                expected="a name such as 'algo.window', or a dictionary.",
                next="correct it.",
            )
        values = {name: value} if dot else dict(value)
        if prefix == "run":
            settings = merge(settings, values)
        elif prefix in SECTIONS:
            settings = merge(settings, {prefix: values})
        elif prefix in kinds:
            settings = merge(settings, {"options": {prefix: values}})
        else:
            raise UnknownNameError(
                "kind of option", prefix, known=[*kinds, *SECTIONS, "run"], next="correct it."
            )
    return settings

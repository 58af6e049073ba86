"""`distill_core.distill`: a run from Python, in a script or a notebook.

The same engine, files and checks as `distill run`; nothing is printed unless asked for.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch.utils.data import TensorDataset

from distill_core.artefact.artefact import load
from distill_core.artefact.contents import POSTER
from distill_core.artefact.distilled import Distilled
from distill_core.artefact.last_set import current_file
from distill_core.artefact.manifest import read_manifest
from distill_core.commands import run as run_command
from distill_core.commands.evaluate import cross_evaluate
from distill_core.commands.evaluation_record import CrossEvaluation
from distill_core.config.discovery import discover, preset_settings
from distill_core.config.effects import check_effects
from distill_core.config.networks import rows_of
from distill_core.config.run_config import RunConfig, resolve
from distill_core.config.settings import merge, nested
from distill_core.contracts.data import AUGMENTATIONS
from distill_core.data.data_notes import data_notes
from distill_core.data.in_memory import NAME, are_own, plugin_of, raw_data
from distill_core.evaluation.evaluate import Result
from distill_core.evaluation.judge import table
from distill_core.export import export
from distill_core.report.notebook import notebook_html
from distill_core.run.directory import check_files, check_new
from distill_core.run.notices import Notice
from distill_core.system.folders import whole_folder
from distill_core.system.paths import as_path
from distill_core.system.plain_files import PICTURE, read_plain
from distill_core.training.train import Network
from registry import OptionError, Plugins

if TYPE_CHECKING:
    from PIL import Image


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
    backbone: str | Sequence[str] | None = None,
    ipc: float | None = None,
    budget_bytes: int | str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    preset: str | None = None,
    options: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> DistillResult:
    """Distill a dataset and judge the result; defaults are those of `distill run`.

    Args:
        dataset: a name, or images of your own: `RawData`, (images, labels), or a torch Dataset;
            see `data.in_memory.raw_data`.
        test: test images of your own; default: a fifth of every class.
        class_names: names of your own classes, in label order.
        augmentations: operations that keep the labels of your own images.
        representation, labeler, orderer, algorithm: names, as `distill list` shows.
        backbone: a name, such as "convnet" or "timm:resnet18"; of several the first distills, and
            the others judge the result, too: `DistillResult.by_network`.
        ipc: pixel budget in images per class.
        budget_bytes: budget in bytes instead, labels counted: 30720 or "30KiB".
        steps: outer steps.
        minutes: time limit of the outer steps, if it comes before `steps`.
        seed: seed of every random draw.
        device: auto, cpu, cuda, cuda:1, mps.
        preset: a configuration from `distill presets`, which the other arguments change.
        options: as `-o` on the command line: {"algo.window": 60} or {"algo": {"window": 60}}.
        out: run directory; default: a temporary one; `DistillResult.save` keeps the result.
        overwrite: delete an earlier run in `out`.
        verbose: print what `distill run` prints, with a progress bar in terminals.

    Returns:
        The result, with accuracy, poster and dataset; it can be saved, judged, and trained on.

    Warns:
        UserWarning: images of your own lose depth, or a class has no test images, for example; the
            run's manifest.json has the sentences as `data_notes`, for every dataset.

    Raises:
        ExplainedError: as for `distill run`; UnknownNameError, OptionError and InputError are
            mistakes in the arguments.
        KeyboardInterrupt: Ctrl-C; with `out`, the run can be resumed.
    """
    target = None if out is None else as_path(out, what="out")
    extra = []
    if dataset is not None and not isinstance(dataset, str):
        raw = raw_data(dataset, test, class_names=class_names, augmentations=augmentations)
        for note in data_notes(raw):
            warnings.warn(note, stacklevel=2)
        extra, dataset = [plugin_of(raw)], NAME
    elif are_own(test, class_names, augmentations):
        raise OptionError(
            "test, class_names and augmentations are for images of your own, but dataset is a "
            "name.",
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
        "budget_bytes": budget_bytes,
        "steps": steps,
        "minutes": minutes,
        "seed": seed,
        "device": device,
    }
    stronger = merge({k: v for k, v in given.items() if v is not None}, nested(options or {}))
    config = resolve(merge(preset_settings(preset, plugins) if preset else {}, stronger), plugins)
    check_effects(config, stronger)
    if target is not None:
        check_new(target, overwrite=overwrite)
        return _run(config, plugins, target, overwrite=overwrite, verbose=verbose)
    run_dir = Path(tempfile.mkdtemp(prefix="distill-"))
    try:
        outcome = _run(config, plugins, run_dir, overwrite=False, verbose=verbose)
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    weakref.finalize(outcome, shutil.rmtree, run_dir, ignore_errors=True)
    return outcome


def _run(
    config: RunConfig, plugins: Plugins, run_dir: Path, *, overwrite: bool, verbose: bool
) -> DistillResult:
    others: dict[str, dict[str, Result]] = {}
    try:
        own = run_command.run(
            config,
            plugins,
            run_dir,
            resume=False,
            overwrite=overwrite,
            quiet=not verbose,
            judged=others.__setitem__,
        )
    except run_command.Interrupted:
        raise KeyboardInterrupt("the run was ended; what `out` names can be resumed") from None
    return DistillResult(run_dir, config, plugins, {config.named("backbone"): own, **others})


class Accuracy(NamedTuple):
    """Mean and sample standard deviation over networks, fractions; std None for a single one."""

    mean: float
    std: float | None


class DistillResult:
    """The result of a run.

    Attributes:
        run_dir: its files; deleted with this object, unless `out` was given.
        config: the resolved configuration.
        results: accuracies on the test set: "distilled", and the controls "random", "full" and, of
            what is compared by bytes, "random_bytes".
        by_network: the same for each network that judges, by name; the run's own is the first.
        distilled: the distilled dataset, as `distill_core.load` gives it.
        notices: what is odd about the course of the run or its results, with what to try.
    """

    def __init__(
        self,
        run_dir: Path,
        config: RunConfig,
        plugins: Plugins,
        by_network: dict[str, dict[str, Result]],
    ) -> None:
        self.run_dir, self.config, self.by_network = run_dir, config, by_network
        self.results = by_network[config.named("backbone")]
        self.distilled: Distilled = load(run_dir)
        self.notices = tuple(Notice(**each) for each in read_manifest(run_dir)["notices"])
        self._plugins = plugins

    @property
    def accuracy(self) -> Accuracy:
        """Accuracy of fresh networks trained on the distilled set, on the test set."""
        result = self.results["distilled"]
        return Accuracy(result.mean, result.std)

    @property
    def dataset(self) -> TensorDataset:
        """Whitened images (n, C, h, w) float32 and soft labels (n, K) float32."""
        return self.distilled.dataset

    @property
    def poster(self) -> Image.Image:
        """The picture: un-whitened, contrast stretched, enlarged."""
        from PIL import Image

        data = read_plain(current_file(self.run_dir / POSTER), PICTURE)
        with Image.open(BytesIO(data)) as picture:
            picture.load()
            return picture

    def save(self, path: str | Path) -> Path:
        """Copy the run directory, for `distill_core.load` and the commands of `distill`.

        Raises:
            InputError: `path` is no path or in use, or a file of the run has been replaced by a
                link, a pipe or a device.
        """
        target = as_path(path, what="path")
        check_new(target, overwrite=False)
        check_files(self.run_dir)
        with whole_folder(target, replace=True) as folder:
            shutil.copytree(self.run_dir, folder, dirs_exist_ok=True)
            check_new(target, overwrite=False)  # still
        return target

    def export(self, path: str | Path, format: str) -> list[str]:
        """Write it for other tools, as `distill export` does.

        Args:
            path: a folder that does not exist or is empty.
            format: "images", "tensors", "huggingface" or "dd-ranking".
        """
        return export(self.run_dir, as_path(path, what="path"), format)

    def evaluate(
        self,
        backbones: str | Collection[str] = (),
        *,
        metrics: str | Collection[str] = (),
        split: str = "test",
        **evaluate: Any,
    ) -> CrossEvaluation:
        """Train fresh networks on it and on its controls, as `distill evaluate` does.

        Args:
            backbones: a name or several, such as "timm:resnet18"; default: the run's own.
            metrics: "lrs", "ars".
            split: "test", or "validation" to choose settings by.
            evaluate: options of `evaluate`, such as protocol="dc", nets=3 or controls=False.

        Raises:
            ExplainedError: a name or an option is wrong.
            NotKeptError: what was found could not be written; the error has it as `found`.
        """
        backbones, metrics = (
            [each] if isinstance(each, str) else each for each in (backbones, metrics)
        )
        settings = self.config.model_dump(mode="json", exclude_none=True)
        configs = rows_of(settings, backbones, self._plugins, {"evaluate": evaluate})
        return cross_evaluate(self.run_dir, configs, self._plugins, metrics=metrics, split=split)

    def train(self, network: Network, *, seed: int = 0) -> Network:
        """Train a network with K outputs on it, in place, as its recipe says."""
        return self.distilled.train(network, seed=seed)

    def __repr__(self) -> str:
        return "\n".join([repr(self.distilled), table(self.results), *map(str, self.notices)])

    def _repr_html_(self) -> str:
        """The picture and the accuracies, for notebooks."""
        poster = current_file(self.run_dir / POSTER)
        return notebook_html(self.config, self.distilled, poster, self.results, self.notices)

"""What `distill_core.distill` returns: a result to look at, save, judge and train on."""

from __future__ import annotations

import base64
import html
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch.utils.data import TensorDataset

from distill_core.artefact import load
from distill_core.config import RunConfig, merge, resolve
from distill_core.cross_evaluate import CrossEvaluation, cross_evaluate
from distill_core.distilled import Distilled
from distill_core.evaluate import Result
from distill_core.export import export
from distill_core.judge import NAMES, table
from distill_core.pictures import POSTER
from distill_core.run_directory import check_new
from distill_core.training import Network
from registry import Plugins

if TYPE_CHECKING:
    from PIL import Image


class Accuracy(NamedTuple):
    """Mean and sample standard deviation over networks, fractions; std None for a single one."""

    mean: float
    std: float | None


class Outcome:
    """The result of a run.

    Attributes:
        run_dir: where its files are; goes with this object, unless `out` was given.
        config: the resolved configuration.
        results: accuracies on the test set: "distilled", and the controls "random" and "full".
        distilled: the distilled dataset, as `distill_core.load` gives it.
    """

    def __init__(
        self,
        run_dir: Path,
        config: RunConfig,
        plugins: Plugins,
        results: dict[str, Result],
    ) -> None:
        self.run_dir, self.config, self.results = run_dir, config, results
        self.distilled: Distilled = load(run_dir)
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

        with Image.open(self.run_dir / POSTER) as picture:
            picture.load()
            return picture

    def save(self, path: str | Path) -> Path:
        """Copy the run directory, for `distill_core.load` and the commands of `distill`.

        Raises:
            InputError: `path` is in use.
        """
        target = Path(path)
        check_new(target, overwrite=False)
        shutil.copytree(self.run_dir, target, dirs_exist_ok=True)
        return target

    def export(self, path: str | Path, format: str) -> list[str]:
        """Write it for other tools, as `distill export` does.

        Args:
            path: a folder that does not exist or is empty.
            format: "images", "tensors", "huggingface" or "dd-ranking".
        """
        return export(self.run_dir, Path(path), format)

    def evaluate(
        self,
        backbones: Collection[str] = (),
        *,
        metrics: Collection[str] = (),
        **evaluate: Any,
    ) -> CrossEvaluation:
        """Train fresh networks on it and on its controls, as `distill evaluate` does.

        Args:
            backbones: names; default: the run's own.
            metrics: "lrs", "ars".
            evaluate: options of `evaluate`, such as protocol="dc", nets=3 or controls=False.

        Raises:
            ExplainedError: a name or an option is wrong.
        """
        settings = self.config.model_dump(mode="json", exclude_none=True)
        configs = {}
        for name in backbones or (self.config.backbone,):
            changed = merge(settings, {"backbone": name, "evaluate": evaluate})
            configs[name] = resolve(changed, self._plugins)
        return cross_evaluate(self.run_dir, configs, self._plugins, metrics=metrics)

    def train(self, network: Network, *, seed: int = 0) -> Network:
        """Train a network with K outputs on it, in place, as its recipe says."""
        return self.distilled.train(network, seed=seed)

    def __repr__(self) -> str:
        return f"{self.distilled!r}\n{table(self.results)}"

    def _repr_html_(self) -> str:
        """The poster and the accuracies, for notebooks."""
        data = base64.b64encode((self.run_dir / POSTER).read_bytes()).decode()
        config = self.config
        title = " x ".join((config.repr, config.labeler, config.orderer, config.algo))
        rows = "".join(
            f"<tr><td>{html.escape(NAMES[name])}</td><td>{html.escape(str(result))}</td>"
            f"<td>{len(result.accuracies)}</td></tr>"
            for name, result in self.results.items()
        )
        classes = html.escape(", ".join(self.distilled.class_names))
        return (
            f"<div><p><b>{html.escape(title)}</b> on {html.escape(config.dataset)}: "
            f"{html.escape(str(self.distilled.budget))}</p>"
            f'<img alt="the distilled images" style="max-width: 100%" '
            f'src="data:image/png;base64,{data}">'
            f"<table><tr><th>trained on</th><th>test accuracy</th><th>networks</th></tr>{rows}"
            f"</table><p>classes: {classes}</p></div>"
        )

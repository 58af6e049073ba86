"""The files of a run directory, and all that reads them: loading, resuming, reports, checks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image
from reader import SETTINGS, Reader

from distill_core import load
from distill_core.artefact import artefact
from distill_core.artefact.packing import state_of
from distill_core.commands.evaluate import cross_evaluate
from distill_core.commands.run import run
from distill_core.commands.verify import verify
from distill_core.config.discovery import collect_presets, discover
from distill_core.config.run_config import resolve
from distill_core.config.settings import read_settings
from distill_core.export import export
from distill_core.report.compare import compare, markdown
from distill_core.report.page import write_report
from distill_core.report.record import read_run
from distill_core.report.svg import Series, chart
from distill_core.report.timelapse import animate
from distill_core.run.checkpoint import load_checkpoint
from distill_core.run.observers import MetricsFile
from distill_core.system.files import read_tensors
from registry import ExplainedError

PLUGINS = discover()
PRESETS = collect_presets(PLUGINS)
CONFIG = resolve(SETTINGS, PLUGINS)
EVALUATION, SNAPSHOT = "evaluation-0a1b2c3d.json", "step_0000002.png"
FORMATS = ("images", "tensors", "huggingface", "dd-ranking")
IN_REPORTS = {
    "manifest.json": "json",
    "metrics.jsonl": "jsonl",
    "run.toml": "toml",
    EVALUATION: "json",
    "distilled.safetensors": "safetensors",
}


def run_readers(good: Good) -> list[Reader]:
    """Return the readers of the files of a small run."""
    alone, newest = good.without("manifest.json"), good.without("previous.safetensors")
    return [
        Reader("run.toml", "toml", good["run.toml"], _read_settings),
        Reader("manifest.json", "json", good["manifest.json"], _reading(good, "manifest.json")),
        Reader("distilled.safetensors, by itself", "safetensors", good["distilled.safetensors"],
               _reading(alone, "distilled.safetensors")),
        Reader("whitening.safetensors", "safetensors", good["whitening.safetensors"],
               _trusting(_reading(alone, "whitening.safetensors"))),
        Reader("whitening.safetensors, in a report", "safetensors", good["whitening.safetensors"],
               _trusting(_reporting(good, "whitening.safetensors"))),
        Reader("distilled.safetensors, exported", "safetensors", good["distilled.safetensors"],
               _exporting(alone, "distilled.safetensors")),
        Reader("a snapshot", "bytes", good[SNAPSHOT], _animating(good)),
        Reader("checkpoint", "safetensors", good["state.safetensors"], _resuming(newest)),
        Reader("metrics.jsonl", "jsonl", good["metrics.jsonl"], _read_metrics),
        *(
            Reader(f"{file}, in a report", kind, good[file], _reporting(good, file))
            for file, kind in IN_REPORTS.items()
        ),
    ]  # fmt: skip


@dataclass(frozen=True)
class Good:
    """A run directory that is in order."""

    path: Path
    left_out: tuple[str, ...] = ()

    @staticmethod
    def make(path: Path) -> Good:
        run(CONFIG, PLUGINS, path, resume=False, overwrite=False, quiet=True)
        cross_evaluate(path, {"convnet": CONFIG}, PLUGINS)
        (evaluation,) = (path / "evaluation").iterdir()
        evaluation.rename(evaluation.with_name(EVALUATION))
        animate(path)
        shutil.copy(path / "checkpoint/state.safetensors", path / "checkpoint/previous.safetensors")
        return Good(path)

    def __getitem__(self, name: str) -> bytes:
        return next(self.path.rglob(name)).read_bytes()

    def without(self, *names: str) -> Good:
        return Good(self.path, names)

    def copy(self, place: Path) -> None:
        for path in self.path.rglob("*"):
            if path.is_file() and path.name not in self.left_out:
                copy = place / path.relative_to(self.path)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)

    def copied(self, place: Path, name: str, data: bytes) -> Path:
        """Copy the directory, with other content in one file; the manifest says that it is right.

        Whoever changes a file can change what is said of it.
        """
        self.copy(place)
        next(place.rglob(name)).write_bytes(data)
        listed = place / "manifest.json"
        if name.endswith(".safetensors") and listed.exists():
            manifest = json.loads(listed.read_bytes())
            manifest["files"][name] = hashlib.sha256(data).hexdigest()
            listed.write_text(json.dumps(manifest))
        return place


def _read_settings(data: bytes, place: Path) -> object:
    (place / "run.toml").write_bytes(data)
    return resolve(read_settings(place / "run.toml"), PLUGINS)


def _read_metrics(data: bytes, place: Path) -> object:
    (place / "metrics.jsonl").write_bytes(data)
    return MetricsFile(place / "metrics.jsonl", step=1)


def _resuming(good: Good) -> Callable[[bytes, Path], object]:
    def read(data: bytes, place: Path) -> object:
        return load_checkpoint(good.copied(place, "state.safetensors", data), CONFIG)

    return read


def _reading(good: Good, name: str) -> Callable[[bytes, Path], object]:
    """What `distill_core.load` gives is used, too."""

    def read(data: bytes, place: Path) -> object:
        distilled = load(good.copied(place, name, data))
        images, labels = distilled.dataset.tensors
        picture, shown = distilled.transform(Image.new("RGB", (9, 9))), repr(distilled)
        tensors, metadata = read_tensors(distilled.path)
        return state_of(tensors, metadata["same"]), images.sum(), labels.sum(), picture, shown

    return read


def _trusting(read: Callable[[bytes, Path], object]) -> Callable[[bytes, Path], object]:
    """Read as if the checksum of the whitening had been made to fit."""

    def patched(data: bytes, place: Path) -> object:
        checked = artefact._check_whitening
        artefact._check_whitening = lambda file, expected: None
        try:
            return read(data, place)
        finally:
            artefact._check_whitening = checked

    return patched


def _reporting(good: Good, name: str) -> Callable[[bytes, Path], object]:
    """What `distill verify`, `compare` and `report` do; the page must hold no foreign markup."""
    # A run of few steps has no curve, which another file of metrics may give it.
    curve = Series("curve", [(1, 0.1, 0.02), (2, 0.2, 0.02), (3, 0.3, 0.02)])
    drawn = "".join(
        chart(
            [curve, replace(curve, marks=True), replace(curve, points=curve.points[:1])], x="", y=""
        )
    )
    known = Tags.of((good.path / "report.html").read_text(encoding="utf-8") + drawn)
    page = Path("report.html")

    def read(data: bytes, place: Path) -> object:
        good.copied(place, name, data)
        with contextlib.suppress(ExplainedError):  # as good as a list of what is wrong
            verify(place)
        record = read_run(place)
        table = markdown(compare([record], PRESETS))
        write_report([record], PRESETS, place / page)
        foreign = Tags.of((place / page).read_text(encoding="utf-8")) - known
        if foreign:
            raise AssertionError(f"the page has foreign markup: {sorted(foreign)[:3]}")
        return table

    return read


def _exporting(good: Good, name: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, place: Path) -> object:
        good.copied(place, name, data)
        return [export(place, place / form, form) for form in FORMATS]

    return read


def _animating(good: Good) -> Callable[[bytes, Path], object]:
    def read(data: bytes, place: Path) -> object:
        return animate(good.copied(place, SNAPSHOT, data))

    return read


class Tags(HTMLParser):
    """Collects the tags of a page, each with the names of its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, ...]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, *sorted(name for name, _ in attrs)))

    @staticmethod
    def of(text: str) -> set[tuple[str, ...]]:
        tags = Tags()
        tags.feed(text)
        return tags.found

"""Everything that distill reads from disk, each as a good file and a function that reads it."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from distill_core import artefact as artefacts
from distill_core import load
from distill_core.artefact import read_state
from distill_core.assemble import load_real
from distill_core.checkpoint import load_checkpoint
from distill_core.config import merge, read_settings, resolve
from distill_core.data import RealData
from distill_core.discovery import discover
from distill_core.observers import MetricsFile
from distill_core.session import run

CLASSES = ("class0", "class1", "class2", "class3")
SETTINGS: dict[str, Any] = {
    "repr": "poster",
    "labeler": "poddl",
    "orderer": "identity",
    "algo": "ratbptt",
    "dataset": "shapes",
    "ipc": 0.8,
    "steps": 2,
    "evaluate": {"nets": 1, "steps": 2, "full_steps": 2},
    "data": {"whitening": "zca"},
    "options": {
        "repr": {"patches": "2x5"},
        "algo": {"window": 2, "total": 4, "batch": 8, "real_batch": 16},
        "dataset": {"classes": 6, "size": 8, "train_per_class": 6, "test_per_class": 3},
        "backbone": {"width": 4, "depth": 1},
    },
}


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes:
        name: what it is.
        kind: how `attacks.mutations` may change it.
        good: a file that is read without complaint.
        read: puts content where it belongs, below a folder that is its own, and reads it.
    """

    name: str
    kind: str
    good: bytes
    read: Callable[[bytes, Path], object]


def readers(folder: Path) -> list[Reader]:
    """Make a small run below `folder`, and return the readers of its files and of other inputs."""
    plugins = discover()
    config = resolve(SETTINGS, plugins)
    good = folder / "good"
    run(config, plugins, good, resume=False, overwrite=False)
    content = {path.name: path.read_bytes() for path in good.rglob("*") if path.is_file()}

    def inside(name: str, *, without: tuple[str, ...] = ()) -> Callable[[bytes, Path], Path]:
        def put(data: bytes, place: Path) -> Path:
            for path in good.rglob("*"):
                if path.is_file() and path.name not in without:
                    copy = place / path.relative_to(good)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy)
            found = next(path for path in place.rglob(name))
            found.write_bytes(data)
            return place

        return put

    def settings(data: bytes, place: Path) -> object:
        (place / "run.toml").write_bytes(data)
        return resolve(read_settings(place / "run.toml"), plugins)

    def artefact(name: str, *, without: tuple[str, ...] = ()) -> Callable[[bytes, Path], object]:
        put = inside(name, without=without)

        def read(data: bytes, place: Path) -> object:
            distilled = load(put(data, place))
            images, labels = distilled.dataset.tensors
            picture = Image.new("RGB", (9, 9))
            return read_state(place), images.sum(), labels.sum(), distilled.transform(picture)

        return read

    def checkpoint(data: bytes, place: Path) -> object:
        return load_checkpoint(inside("state.safetensors")(data, place), config)

    def metrics(data: bytes, place: Path) -> object:
        (place / "metrics.jsonl").write_bytes(data)
        return MetricsFile(place / "metrics.jsonl", step=1)

    def order(name: str, file: str, **options: str) -> Callable[[bytes, Path], object]:

        def read(data: bytes, place: Path) -> object:
            (place / file).write_bytes(data)
            orderer = plugins["orderer"].create(name, {**options, "file": place / file})
            return orderer.order(real, (2, 2), generator=torch.Generator())

        return read

    def folder_of_images(file: str) -> Callable[[bytes, Path], object]:
        def read(data: bytes, place: Path) -> object:
            for number, path in enumerate((file, "a/1.png", "b/2.png")):
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_bytes(data if number == 0 else _picture("PNG"))
            return _load(place)

        return read

    def archive(data: bytes, place: Path) -> object:
        (place / "data.zip").write_bytes(data)
        return _load(place / "data.zip")

    def _load(path: Path) -> object:
        options = {"path": path, "size": 8}
        return plugins["dataset"].create("imagefolder", options).load()

    real = _real()
    grid = [["class0", "class1"], ["class2", "class3"]]
    toml = f"grid = {json.dumps(grid)}\n".encode()
    apart = ("manifest.json",)
    return [
        Reader("run.toml", "toml", content["run.toml"], settings),
        Reader("manifest.json", "json", content["manifest.json"], artefact("manifest.json")),
        Reader(
            "distilled.safetensors, by itself", "safetensors", content["distilled.safetensors"],
            artefact("distilled.safetensors", without=apart),
        ),
        Reader(
            "whitening.safetensors", "safetensors", content["whitening.safetensors"],
            _trusting(artefact("whitening.safetensors", without=apart)),
        ),
        Reader("checkpoint", "safetensors", content["state.safetensors"], checkpoint),
        Reader("metrics.jsonl", "jsonl", content["metrics.jsonl"], metrics),
        Reader("class embeddings", "npz", _embeddings(), order("poco", "e.npz", similarity="file")),
        Reader("class grid, JSON", "json", json.dumps(grid).encode(), order("given", "grid.json")),
        Reader("class grid, TOML", "toml", toml, order("given", "grid.toml")),
        Reader("class grid, text", "bytes", b"class0 class1\nclass2 class3\n",
               order("given", "grid.txt")),
        *(
            Reader(f"image, {kind}", "bytes", _picture(kind), folder_of_images(f"a/0.{kind}"))
            for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
        ),
        Reader("archive of images", "bytes", _archive(), archive),
    ]  # fmt: skip


def _trusting(read: Callable[[bytes, Path], object]) -> Callable[[bytes, Path], object]:
    """Read as if the checksum of the whitening had been made to fit."""

    def patched(data: bytes, place: Path) -> object:
        checked = artefacts._check_whitening
        artefacts._check_whitening = lambda file, expected: None
        try:
            return read(data, place)
        finally:
            artefacts._check_whitening = checked

    return patched


def _real() -> RealData:
    """Data with the classes that the class grids and embeddings name."""
    small = {**SETTINGS["options"]["dataset"], "classes": len(CLASSES)}
    config = resolve(merge(SETTINGS, {"options": {"dataset": small}}), discover())
    real = load_real(config, discover(), device=torch.device("cpu"))
    return replace(real, spec=replace(real.spec, class_names=CLASSES))


def _picture(kind: str) -> bytes:
    out = io.BytesIO()
    numbers = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(numbers).save(out, kind)
    return out.getvalue()


def _embeddings() -> bytes:
    out = io.BytesIO()
    np.savez(out, embeddings=np.eye(4), names=np.array(CLASSES))
    return out.getvalue()


def _archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"):
            archive.writestr(name, _picture("PNG"))
    return out.getvalue()

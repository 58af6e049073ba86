"""What a user hands in: images in folders and archives, class embeddings, class grids; experts."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from reader import SETTINGS, Reader

from distill_core.config.discovery import discover
from distill_core.config.run_config import resolve
from distill_core.config.sections import EngineOptions
from distill_core.config.settings import merge
from distill_core.contracts.data import RealData
from distill_core.contracts.experts import ExpertRecipe
from distill_core.engine.engine import Engine
from distill_core.run.assemble import load_real
from distill_core.run.plan import Plan
from distill_core.training.expert_cache import Experts

CLASSES = ("class0", "class1", "class2", "class3")
GRID = [["class0", "class1"], ["class2", "class3"]]
PLUGINS = discover()
CPU = torch.device("cpu")


def input_readers() -> list[Reader]:
    """Return the readers of images, embeddings, grids and experts."""
    real = _real()

    def order(name: str, file: str, **options: str) -> Callable[[bytes, Path], object]:
        def read(data: bytes, place: Path) -> object:
            (place / file).write_bytes(data)
            orderer = PLUGINS["orderer"].create(name, {**options, "file": place / file})
            return orderer.order(real, (2, 2), generator=torch.Generator())

        return read

    text = "\n".join(" ".join(row) for row in GRID)
    return [
        Reader("class embeddings", "npz", _embeddings(), order("poco", "e.npz", similarity="file")),
        Reader("class grid, JSON", "json", json.dumps(GRID).encode(), order("given", "grid.json")),
        Reader("class grid, TOML", "toml", f"grid = {json.dumps(GRID)}\n".encode(),
               order("given", "grid.toml")),
        Reader("class grid, text", "bytes", text.encode(), order("given", "grid.txt")),
        *(
            Reader(f"image, {kind}", "bytes", _picture(kind), _folder_with(f"a/0.{kind}"))
            for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
        ),
        Reader("archive of images", "bytes", _archive(), _read_archive),
        _expert_reader(real),
    ]  # fmt: skip


def _folder_with(file: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, place: Path) -> object:
        for path in (file, "a/1.png", "b/2.png"):
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(data if path == file else _picture("PNG"))
        return _load(place)

    return read


def _read_archive(data: bytes, place: Path) -> object:
    (place / "data.zip").write_bytes(data)
    return _load(place / "data.zip")


def _load(path: Path) -> object:
    return PLUGINS["dataset"].create("imagefolder", {"path": path, "size": 8}).load()


def _real() -> RealData:
    """Data with the classes that the class grids and embeddings name."""
    small = {**SETTINGS["options"]["dataset"], "classes": len(CLASSES)}
    config = resolve(merge(SETTINGS, {"options": {"dataset": small}}), PLUGINS)
    real = load_real(config, PLUGINS)
    return replace(real, spec=replace(real.spec, class_names=CLASSES))


def _expert_reader(real: RealData) -> Reader:
    """The cache of expert trajectories, of which a run reads a file in every outer step."""
    make = Plan.of(resolve(SETTINGS, PLUGINS), PLUGINS, {"backbone"}).networks(real.spec)
    engine = Engine.choose(EngineOptions(), make(torch.Generator()), CPU)
    recipe = ExpertRecipe(lr=0.01, batch=8)

    def experts(folder: Path) -> Experts:
        return Experts(real, make, engine, backbone={}, seed=0, folder=folder)

    with tempfile.TemporaryDirectory() as name:
        experts(Path(name)).snapshots(recipe, 0, [0, 1], until=1)
        (made,) = Path(name).glob("*/0000.safetensors")
        good, file = made.read_bytes(), made.relative_to(name)

    def read(data: bytes, place: Path) -> object:
        (place / file).parent.mkdir()
        (place / file).write_bytes(data)
        return experts(place).snapshots(recipe, 0, [0, 1], until=1)

    return Reader("expert trajectory", "safetensors", good, read)


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

"""The caches, with a file of another key, a changed one, or no plain file under a good name.

A cache is never believed: what comes out is what would have been made, or the file is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from places import HOW, SECRET, outside
from reader import Reader
from run_files import CONFIG, PLUGINS

from distill_core.data.whitening import fit_whitening
from distill_core.evaluation import baselines
from distill_core.evaluation.evaluate import Evaluator
from distill_core.run.assemble import load_real
from distill_core.run.plan import Plan

STRENGTH = 0.1


def cache_readers() -> list[Reader]:
    """Return the readers of cached whitenings and of cached results of the whole training set."""
    images = [_images(seed, size) for seed, size in ((0, 4), (1, 4), (2, 5))]
    made = [_fitted(each) for each in images]
    whitenings = [file for _, file in made]
    ((right, good), *_) = made
    name = _name_of(images[0])

    def whiten(data: bytes, place: Path) -> object:
        with cache_in(place / "cache"):
            found = fit_whitening("zca", images[0], strength=STRENGTH).values["matrix"]
        if not torch.equal(found, right):
            raise AssertionError("another matrix than that of the images")
        return found

    def putting(files: list[bytes], name: str) -> Callable[[bytes, Path], object]:
        """Put one of the files, changed bytes, or something else under the name of a file."""

        def put(data: bytes, place: Path) -> None:
            path = place / "cache" / name
            path.parent.mkdir(parents=True)
            out = outside(place)
            out.mkdir()
            (out / "thesis.tex").write_bytes(SECRET)
            (out / "good").write_bytes(files[0])
            how, size, number = json.loads(data)
            if how == "swapped":
                path.write_bytes(files[number % len(files)])
            else:
                HOW[how](path, out / "good", size)

        return put

    def bytes_under(name: str) -> Callable[[bytes, Path], object]:
        def put(data: bytes, place: Path) -> None:
            path = place / "cache" / name
            path.parent.mkdir(parents=True)
            path.write_bytes(data)

        return put

    judge, results, file = _results()
    swapped = json.dumps(["swapped", 0, 0]).encode()
    return [
        Reader("cached whitening", "safetensors", good, whiten, bytes_under(name)),
        Reader("cached whitening, swapped", "cache", swapped, whiten, putting(whitenings, name)),
        Reader("cached result", "json", results[0], judge, bytes_under(file)),
        Reader("cached result, swapped", "cache", swapped, judge, putting(results, file)),
    ]


@contextlib.contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Use a folder as the cache."""
    before = os.environ["DISTILL_CACHE"]
    os.environ["DISTILL_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ["DISTILL_CACHE"] = before


@contextlib.contextmanager
def new_cache() -> Iterator[Path]:
    """Use an empty folder as the cache."""
    with tempfile.TemporaryDirectory() as name, cache_in(Path(name)):
        yield Path(name)


def swaps(rng: random.Random) -> bytes:
    """Draw what lies in the place of a cached file."""
    how = rng.choice(("swapped", *HOW))
    return json.dumps([how, rng.choice((2**27, 2**31, 2**40)), rng.randrange(3)]).encode()


def _images(seed: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (12, 1, size, size), generator=generator, dtype=torch.uint8)


def _fitted(images: torch.Tensor) -> tuple[torch.Tensor, bytes]:
    """Return the matrix of images, and the file that the cache has of it."""
    with new_cache() as name:
        matrix = fit_whitening("zca", images, strength=STRENGTH).values["matrix"]
        (file,) = name.rglob("*.safetensors")
        return matrix, file.read_bytes()


def _name_of(images: torch.Tensor) -> str:
    with new_cache() as name:
        fit_whitening("zca", images, strength=STRENGTH)
        (file,) = name.rglob("*.safetensors")
        return str(file.relative_to(name))


def _results() -> tuple[Callable[[bytes, Path], object], list[bytes], str]:
    """Return a judgement of the whole training set, the files of three, and the name of one."""
    real = load_real(CONFIG, PLUGINS)
    plan = Plan.of(CONFIG, PLUGINS, {"backbone", "algo", "labeler"})
    evaluator = Evaluator.of(CONFIG, real, plan.networks(real.spec))
    recipe = baselines.Recipe(lr=0.01, steps=2, batch_size=8)
    files, right, file = [], None, ""

    def accuracies(steps: int) -> tuple[float, ...]:
        return baselines.full_control(evaluator, recipe, steps=steps, nets=1).accuracies

    for steps in (1, 2, 3):
        with new_cache() as name:
            found = accuracies(steps)
            (path,) = (each for each in name.rglob("*.json"))
            files.append(path.read_bytes())
            if right is None:
                right, file = found, str(path.relative_to(name))

    def judge(data: bytes, place: Path) -> object:
        with cache_in(place / "cache"):
            found = accuracies(1)
        if found != right:
            raise AssertionError(f"another result, {found}, than {right}")
        return found

    return judge, files, file

"""A run directory with something else under the name of a file: links, pipes, devices, holes.

Every reader and writer of a run directory meets it. Beside the directory lies what is not to be
read, changed or added to.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from reader import Reader
from run_files import CONFIG, FORMATS, PLUGINS, PRESETS, Good

from distill_core import load
from distill_core.artefact.contents import CHECKPOINT, EVALUATION, SNAPSHOTS
from distill_core.artefact.saving import ArtefactWriter
from distill_core.commands.evaluate import cross_evaluate, find_candidate
from distill_core.commands.run import run
from distill_core.commands.sweep import Cell
from distill_core.commands.verify import verify
from distill_core.export import export
from distill_core.report.compare import compare, read_runs
from distill_core.report.page import write_report
from distill_core.report.record import read_run
from distill_core.report.timelapse import animate
from distill_core.run.assemble import assemble, load_real
from distill_core.run.checkpoint import has_checkpoint, save_checkpoint, state_to_resume
from distill_core.run.directory import begin, check_new, settings_of
from distill_core.run.lock import lock_run_dir
from distill_core.run.observers import MetricsFile, Snapshots
from distill_core.run.recording import earlier_commands
from registry import ExplainedError

SECRET = b"what a stranger must not see"
NAMES = (
    *("run.toml", "metrics.jsonl", "manifest.json", "distilled.safetensors"),
    *("whitening.safetensors", "poster.png", "poster_grid.png", "poster.gif", "report.html"),
    *(".lock", CHECKPOINT, EVALUATION, SNAPSHOTS, "checkpoint/state.safetensors"),
    *(
        "checkpoint/previous.safetensors",
        "evaluation/evaluation-0a1b2c3d.json",
        "evaluation/more-0a1b2c3d.json",
    ),
    *("snapshots/step_0000000.png", "snapshots/step_0000009.png", ".run.toml.0a1b2c3d.part"),
    *("checkpoint/.state.safetensors.0a1b2c3d.part", "events.out.tfevents.0.host.1.0"),
)
LARGE = (2**27, 2**31, 2**35, 2**40)


def place_readers(good: Good) -> list[Reader]:
    """Return every reader and writer of a run directory, for directories that `put` prepares."""
    return [
        Reader(f"places: {name}", "place", b"{}", _guarded(use), _putting(good))
        for name, use in _uses(good).items()
    ]


def placements(rng: random.Random) -> bytes:
    """Draw what lies where: one to five names of a run directory, each with something else."""
    names = rng.sample(NAMES, rng.choice((1, 1, 2, 3, 5)))
    return json.dumps({name: [rng.choice(list(HOW)), rng.choice(LARGE)] for name in names}).encode()


def _putting(good: Good) -> Callable[[bytes, Path], object]:
    def put(data: bytes, place: Path) -> None:
        good.copy(place)
        out = outside(place)
        out.mkdir()
        (out / "thesis.tex").write_bytes(SECRET)
        good.copy(out / "run")
        for name, (how, size) in json.loads(data).items():
            path = place / name
            if not _is_folder(path.parent):
                continue  # the folder is already something else
            theirs = out / "run" / name
            _remove(path)
            HOW[how](path, theirs if theirs.exists() else out / "thesis.tex", size)

    return put


def outside(place: Path) -> Path:
    """The folder of somebody else, beside the place."""
    return place.with_name(f"{place.name}.outside")


def _guarded(use: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """Use a directory; nothing outside may be changed, and no secret be copied out of there."""

    def read(data: bytes, place: Path) -> object:
        del data
        before = dict(_contents(outside(place)))
        try:
            return use(place)
        finally:
            if dict(_contents(outside(place))) != before:
                raise AssertionError("something outside was changed")
            shown = [
                path
                for path, content in _contents(place)
                if SECRET in content and not os.lstat(path).st_nlink > 1
            ]
            if shown:
                raise AssertionError(f"the secret is in {shown[0]}")

    return read


def _uses(good: Good) -> dict[str, Callable[[Path], object]]:
    real = load_real(CONFIG, PLUGINS)
    assembly = assemble(CONFIG, PLUGINS)
    state = state_to_resume(good.path, CONFIG, lambda line: None)
    manifest = {"components": {}, "seed": 0}
    cell = Cell("cell", {}, CONFIG, good.path)

    def report(place: Path) -> None:
        with contextlib.suppress(ExplainedError):
            animate(place)
        write_report([read_run(place)], PRESETS, place / "report.html")

    def several(place: Path) -> None:
        records, _ = read_runs([place, good.path])
        compare(records, PRESETS)
        write_report(records, PRESETS, place / "several.html")

    def resume(place: Path) -> None:
        run(CONFIG, PLUGINS, place, resume=True, overwrite=False, quiet=True)

    def overwrite(place: Path) -> None:
        with lock_run_dir(place):
            begin(place, CONFIG, overwrite=True)

    def write(place: Path) -> None:
        """What a run does in a directory that was changed after the run began."""
        save_checkpoint(place, state, CONFIG)
        log = MetricsFile(place / "metrics.jsonl", step=1)
        log.after_step(2, {"seconds": 1.0})
        log.after_going_back(1, "what")
        Snapshots(place, lambda: assembly).save_if_due(2)
        recipe = assembly.algorithm.recipe()
        ArtefactWriter(place, real).save(assembly.synthetic, recipe=recipe, manifest=manifest)

    def judge(place: Path) -> None:
        find_candidate(place, CONFIG, PLUGINS, real)
        cross_evaluate(place, {"convnet": CONFIG}, PLUGINS)

    def sweep(place: Path) -> None:
        mine = Cell(**{**vars(cell), "run_dir": place})
        mine.state(), mine.manifest(), has_checkpoint(place), settings_of(place)

    def exported(place: Path) -> None:
        for form in FORMATS:
            export(place, place / form, form)

    def lock(place: Path) -> None:
        with lock_run_dir(place):
            earlier_commands(place)

    return {
        "load": lambda place: torch.sum(load(place).images),
        "verify": verify,
        "report": report,
        "report of several": several,
        "resume": resume,
        "overwrite": overwrite,
        "new": lambda place: check_new(place, overwrite=False),
        "write": write,
        "evaluate": judge,
        "sweep": sweep,
        "export": exported,
        "lock": lock,
    }


def _contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield the plain files below a folder that are not giants, and their content."""
    for path in sorted(folder.rglob("*")):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_size < 2**24:
            yield path, path.read_bytes()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _socket(path: Path, *_: Any) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _holes(path: Path, theirs: Path, size: int) -> None:
    """A giant that takes no space on the disk, with the start of a good file."""
    if theirs.is_file():
        shutil.copyfile(theirs, path)
    else:
        path.touch()
    os.truncate(path, size)


def _tensor_of_holes(path: Path, theirs: Path, size: int) -> None:
    """The same, with a header that says that all of it is one tensor."""
    count = size // 4 - 1024
    entry = {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}
    header = json.dumps({"__metadata__": {"distill": '{"format": 1}'}, "pixels": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + 4 * count)


def _device(path: Path, *_: Any) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:  # only root may
        path.symlink_to("/dev/zero")


def _hard_link(path: Path, theirs: Path, size: int) -> None:
    os.link(theirs if theirs.is_file() else outside_file(theirs), path)


def outside_file(theirs: Path) -> Path:
    return next(each for each in (theirs, *theirs.parents) if (each / "thesis.tex").exists()) / (
        "thesis.tex"
    )


HOW: dict[str, Callable[[Path, Path, int], object]] = {
    "link": lambda path, theirs, size: path.symlink_to(theirs),
    "link to the thesis": lambda path, theirs, size: path.symlink_to(outside_file(theirs)),
    "link to nothing": lambda path, theirs, size: path.symlink_to(theirs.with_name("new")),
    "link to itself": lambda path, theirs, size: path.symlink_to(path.name),
    "link to a device": lambda path, theirs, size: path.symlink_to("/dev/zero"),
    "link to a folder": lambda path, theirs, size: path.symlink_to(outside_file(theirs).parent),
    "hard link": _hard_link,
    "pipe": lambda path, theirs, size: os.mkfifo(path),
    "socket": _socket,
    "device": _device,
    "folder": lambda path, theirs, size: path.mkdir(),
    "file": lambda path, theirs, size: path.write_bytes(b""),
    "holes": _holes,
    "a tensor of holes": _tensor_of_holes,
    "missing": lambda path, theirs, size: None,
}

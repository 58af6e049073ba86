"""A run of a combination, from its steps to what is loaded, verified, exported and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from combination import PLUGINS
from safetensors.torch import load_file

from distill_core import load
from distill_core.artefact.contents import CONFIG, DISTILLED, MANIFEST, STORED, WHITENING
from distill_core.artefact.count_storage import size
from distill_core.artefact.saving import ArtefactWriter
from distill_core.commands.verify import verify
from distill_core.commands.verify_decoded import check_decoded
from distill_core.config.run_config import RunConfig
from distill_core.export import export
from distill_core.run.assemble import assemble
from distill_core.run.checkpoint import load_checkpoint
from distill_core.run.directory import settings_of, write_config
from distill_core.run.loop import OuterLoop
from distill_core.run.recording import save_result
from distill_core.system.files import read_tensors
from registry import ExplainedError

FORMS = ("images", "tensors", "huggingface")
# What a user may be told; anything else is a failure.
REFUSALS = (
    "has no numbers that are learned, and its scales would be all that is",
    "stores no numbers here, so that labeler.stored",
    "there is nothing to learn: neither",
    "does not learn labels, and labeler",
)


class Wrong(Exception):
    """A combination does not do what it should."""


def check_run(config: RunConfig, folder: Path, *, exports: bool) -> str:
    """Run a combination; return "refused" or "passed".

    Args:
        config: the run.
        folder: a new one, for its files.
        exports: write and read every export, too.

    Raises:
        Wrong: it does something else than it should.
    """
    run_dir, again = folder / "run", folder / "again"
    run_dir.mkdir(parents=True)
    write_config(run_dir, config)
    try:
        loop = _loop(config, run_dir)
        loop.run(stop=lambda: loop.step >= 1)
    except ExplainedError as refusal:
        if not any(text in refusal.what for text in REFUSALS) or not refusal.next:
            raise Wrong(f"refused: {refusal}") from refusal
        return "refused"
    shutil.copytree(run_dir, again)
    loop.run()
    other = _loop(config, again, resume=True)
    other.run()
    _same_state(loop, other)
    _check_result(loop, run_dir, folder)
    if exports:
        _check_exports(run_dir, folder)
    return "passed"


def _loop(config: RunConfig, run_dir: Path, *, resume: bool = False) -> OuterLoop:
    state = load_checkpoint(run_dir, config) if resume else {}
    assembly = assemble(config, PLUGINS, class_grid=state.get("class_grid"), start=not resume)
    assembly.algorithm.prepare(lambda line: None)
    writer = ArtefactWriter(run_dir, assembly.real)
    loop = OuterLoop(assembly, run_dir, on_checkpoint=lambda: save_result(PLUGINS, writer, loop))
    if resume:
        loop.load_state_dict(state)
    return loop


def _same_state(loop: OuterLoop, other: OuterLoop) -> None:
    states = [each.assembly.synthetic.state_dict() for each in (loop, other)]
    for name, tensor in states[0].items():
        if not torch.equal(tensor, states[1][name]):
            raise Wrong(f"{name} is another one after the run was resumed")


@torch.no_grad()
def _check_result(loop: OuterLoop, run_dir: Path, folder: Path) -> None:
    images, labels = loop.result.synthetic.all()
    if not bool(images.isfinite().all() and labels.isfinite().all()):
        raise Wrong("images or labels are not finite")
    files = [file for name in (DISTILLED, STORED) if (file := run_dir / name).exists()]
    alone = folder / "alone" / "alone.safetensors"
    if (run_dir / STORED).exists():
        alone.parent.mkdir()
        shutil.copy(run_dir / WHITENING, alone.parent)
        files.append(Path(shutil.copy(run_dir / STORED, alone)))
    for path in (run_dir, *files):
        found = load(path)
        _same(f"images of {path.name}", found.images, images)
        _same(f"labels of {path.name}", found.labels, labels)
    if failed := [each.found for each in verify(run_dir) if not each.passed]:
        raise Wrong(f"verify: {'; '.join(failed)}")
    decoding = check_decoded(run_dir, settings_of(run_dir), PLUGINS)
    if not decoding.passed or "decode to" not in decoding.found:
        raise Wrong(f"verify --evaluate: {decoding.found}")
    stated = json.loads((run_dir / MANIFEST).read_text())["storage"]["bytes"]
    stored = run_dir / STORED
    if stored.exists() and (found := size(read_tensors(stored)[0])) != stated:
        raise Wrong(f"{stored.name} has {found} bytes of tensors; its storage says {stated}")


def _check_exports(run_dir: Path, folder: Path) -> None:
    whole = load(run_dir)
    for form in FORMS:
        export(run_dir, folder / form, form)
    tensors = load_file(folder / "tensors" / "tensors.safetensors")
    _same("exported images", tensors["images"], whole.images)
    _same("exported labels", tensors["labels"], whole.labels)
    shared = load(folder / "huggingface")
    _same("images of the shared folder", shared.images, whole.images)
    _same("labels of the shared folder", shared.labels, whole.labels)
    if not (folder / "huggingface" / CONFIG).exists():
        raise Wrong(f"the shared folder has no {CONFIG}")
    for form, count in (("images", 1), ("huggingface", 1)):
        pictures = len(list((folder / form).rglob("*.png")))
        if pictures < count * len(whole.images):
            raise Wrong(f"{form} has {pictures} pictures of {len(whole.images)}")


def _same(what: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    if found.shape != expected.shape or not torch.equal(found, expected.float()):
        apart = (
            f"shapes {tuple(found.shape)} and {tuple(expected.shape)}"
            if found.shape != expected.shape
            else f"up to {float((found - expected).abs().max()):.2e}"
        )
        raise Wrong(f"{what} are not those of the run: {apart}")

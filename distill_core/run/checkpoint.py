"""Checkpoints: the complete state of a run in one file, which is replaced atomically.

The previous one is kept, too: if the newest is damaged, the run resumes from it.

A state is a tree of dictionaries, lists, tensors, numbers and text. The tensors go into the body
of a safetensors file and the rest, as JSON, into its header; nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_core.artefact.contents import CHECKPOINT, PREVIOUS, RUN, STATE
from distill_core.artefact.result_file import has_result
from distill_core.config.places import places_of
from distill_core.config.run_config import RunConfig, resolve
from distill_core.config.settings import flatten
from distill_core.data.identity import Identity
from distill_core.run.known_data import UNCHECKED, data_of_artefact, data_of_state
from distill_core.system.files import parse_json, read_tensors, remove_parts, write_tensors
from distill_core.system.plain_files import check_folder
from distill_core.system.state_tree import decode, encode
from registry import ExplainedError, InputError, Plugins

CHECKPOINT_FORMAT = 1
# What may change when a run is resumed: how long it is, where it is computed and how it is judged,
# not what it computes. Other devices, threads or kernels round sums differently. The places of the
# data may change, too: the fingerprint tells whether they are the same (`known_data.py`).
LENGTH = ("steps", "minutes", "checkpoint_minutes", "rank_timeout_minutes")
PLACE = ("device", "threads", "allocator", "tf32", "deterministic", "procs", "engine")
MAY_CHANGE = (*LENGTH, *PLACE, "evaluate", "snapshots", "on_divergence")
_RESTORE = "restore it from a copy"
_KEEP_RESULT = "start another run with --out, or again with --overwrite, which deletes the result"


class DamagedError(InputError):
    """A checkpoint that was changed or cut short after it was written."""


def checkpoint_path(run_dir: Path) -> Path:
    """Return the file of the newest state."""
    return run_dir / CHECKPOINT / STATE


def previous_path(run_dir: Path) -> Path:
    """Return the file of the state before the newest."""
    return run_dir / CHECKPOINT / PREVIOUS


def has_checkpoint(run_dir: Path) -> bool:
    """Return whether a run has saved a state, intact or not."""
    return checkpoint_path(run_dir).exists() or previous_path(run_dir).exists()


def save_checkpoint(run_dir: Path, state: Mapping[str, Any], config: RunConfig) -> None:
    """Write the state beside the old one, flush it, then replace the old one.

    Raises:
        EnvironmentFault: it cannot be written (disk full); the old one is untouched.
    """
    tensors: dict[str, Tensor] = {}
    tree = encode(state, "state", tensors)
    path = checkpoint_path(run_dir)
    check_folder(path.parent).mkdir(parents=True, exist_ok=True)
    header = {
        "format": CHECKPOINT_FORMAT,
        "config": config.model_dump(mode="json"),
        "torch": torch.__version__,
        "tree": json.dumps(tree),
        "digest": _digest(tree, tensors),
    }
    write_tensors(path, tensors, header, keep=previous_path(run_dir))


def load_checkpoint(
    run_dir: Path,
    config: RunConfig,
    tell: Callable[[str], None] = lambda line: None,
    *,
    plugins: Plugins | None = None,
) -> dict[str, Any]:
    """Read the newest intact state of a run, for the same configuration.

    Args:
        run_dir: the run directory.
        config: the configuration to resume with.
        tell: called when the newest state is damaged and the previous one is used.
        plugins: what is installed; supplies defaults for options that are newer than the
            checkpoint. None: none are.

    Raises:
        DamagedError: no state is intact.
        InputError: there is none, it is of another format, or of a run with another
            configuration; the first field that differs is named.
    """
    state, written = read_checkpoint(run_dir, tell)
    old, new = _completed(written, plugins), config.model_dump(mode="json")
    # Without the fingerprint of the data, another place may have other data, and another storage
    # other numbers.
    moves = (*places_of(config), "data.storage") if data_of(run_dir, state=state) else ()
    _check_config(old, new, checkpoint_path(run_dir), (*MAY_CHANGE, *moves))
    return state


def read_checkpoint(
    run_dir: Path, tell: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the newest intact state of a run, and the configuration that it was written with.

    Args:
        run_dir: the run directory.
        tell: called when the newest state is damaged and the previous one is used.

    Raises:
        DamagedError: no state is intact.
        InputError: there is none, or it is of another format.
    """
    path, previous = checkpoint_path(run_dir), previous_path(run_dir)
    check_folder(path.parent)
    if not has_checkpoint(run_dir):
        raise InputError(
            f"{run_dir} has no checkpoint.",
            expected=f"the file {path}, which every run writes.",
            next="start the run again with --overwrite.",
        )
    try:
        tree, tensors, header = _newest_intact(path, previous, tell)
    except DamagedError as error:
        raise _with_advice(error, run_dir) from None
    return decode(tree, tensors), header["config"]


def state_to_resume(
    run_dir: Path, config: RunConfig, tell: Callable[[str], None], *, plugins: Plugins | None = None
) -> dict[str, Any]:
    """Read the state to resume from; a run that was killed early has none, and starts again.

    Raises:
        InputError: as `load_checkpoint`, or there is a result, which starting again would replace.
    """
    for folder in (run_dir, *(check_folder(run_dir / name) for name in RUN.folders)):
        remove_parts(folder)
    if has_checkpoint(run_dir):
        return load_checkpoint(run_dir, config, tell, plugins=plugins)
    if has_result(run_dir):  # a run saves its state before its result
        raise InputError(
            f"{run_dir} has a result and no checkpoint to go on from.",
            expected=f"the file {checkpoint_path(run_dir)}, of the same run.",
            next=f"{_RESTORE}, {_KEEP_RESULT}.",
        )
    tell("resume   there is no checkpoint yet: the run begins with its first outer step")
    return {}


def data_of(
    run_dir: Path,
    tell: Callable[[str], None] = lambda line: None,
    *,
    state: Mapping[str, Any] | None = None,
) -> Identity | None:
    """Return the data that a run has used, from its artefact or its checkpoint; None: not known.

    Args:
        run_dir: the run directory.
        tell: called if there is a result that does not say what the data were.
        state: of the checkpoint to go on with, which speaks before the artefact; None: the artefact
            speaks, and the checkpoint is read only where there is none.

    Raises:
        InputError: the checkpoint is needed and cannot be read.
    """
    if state is None:
        known, saved = data_of_artefact(run_dir), has_checkpoint(run_dir)
        if saved and not has_result(run_dir):
            known = data_of_state(read_checkpoint(run_dir)[0])
    else:
        known, saved = data_of_state(state) or data_of_artefact(run_dir), bool(state)
    if saved and known is None:
        tell(UNCHECKED)
    return known


_Parts = tuple[Any, dict[str, Tensor], dict[str, Any]]  # tree, tensors, header


def _newest_intact(path: Path, previous: Path, tell: Callable[[str], None]) -> _Parts:
    """Return the parts of a state, or of the one before it if that is damaged."""
    try:
        return _read(path)
    except DamagedError as error:
        if not previous.exists():
            raise
        parts = _read(previous)
        tell(f"passed over: {error.what} The state before it is taken")
        return parts


def _read(path: Path) -> _Parts:
    """Return the tree, its tensors and the header of an intact file."""
    try:
        tensors, header = read_tensors(path)
    except InputError as error:
        raise DamagedError(error.what, expected=error.expected) from error
    if header.get("format") != CHECKPOINT_FORMAT:
        raise InputError(
            f"{path} has format {header.get('format')!r}.",
            expected=f"format {CHECKPOINT_FORMAT}, which this version of distill writes.",
            next="go on with the version of distill that began the run (see its "
            "manifest.json), or start again with --overwrite.",
        )
    tree = _intact_tree(header, tensors)
    if tree is None or not isinstance(header.get("config"), dict):
        raise DamagedError(
            f"{path} was changed after it was written: its digest does not match.",
            expected="the bytes that the run wrote.",
        )
    return tree, tensors, header


def _with_advice(error: DamagedError, run_dir: Path) -> DamagedError:
    """Say what can be done: starting again would delete a result that may well be good."""
    expected, otherwise = error.expected, "or start again with --overwrite"
    if has_result(run_dir):
        check = shlex.join(["distill", "verify", str(run_dir)])
        beside = f"the result beside it is another file, which `{check}` checks."
        expected = f"{expected.rstrip('.')}; {beside}"
        otherwise = _KEEP_RESULT
    return DamagedError(error.what, expected=expected, next=f"{_RESTORE}, {otherwise}.")


def _intact_tree(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """Return the tree; None if it or a tensor was changed."""
    try:
        tree = parse_json(header["tree"])
        return tree if _digest(tree, tensors) == header["digest"] else None
    except (KeyError, ValueError):
        return None


def _completed(config: dict[str, Any], plugins: Plugins | None) -> dict[str, Any]:
    """Fill in the defaults of options that are newer than the checkpoint."""
    if plugins is None:
        return config
    try:
        return resolve({"format": CHECKPOINT_FORMAT, **config}, plugins).model_dump(mode="json")
    except (ValueError, ExplainedError):  # an option that is gone: the comparison names it
        return config


def _check_config(
    old: Mapping[str, Any], new: Mapping[str, Any], path: Path, may_change: Sequence[str]
) -> None:
    old, new = flatten(old), flatten(new)
    for name in sorted({*old, *new}):
        if {name, name.partition(".")[0]} & {*may_change} or old.get(name) == new.get(name):
            continue
        raise InputError(
            f"{path} belongs to a run with {name} = {old.get(name)!r}, not {new.get(name)!r}.",
            expected=f"the same configuration except for {', '.join(may_change)}.",
            next="leave the changed setting out, or start a new run with --out.",
        )


def _digest(tree: Any, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(tree).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

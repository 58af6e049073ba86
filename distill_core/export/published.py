"""A result as others get it: it can be loaded, and names no folder of the machine that made it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_core.artefact.artefact import file_sha256
from distill_core.artefact.contents import MANIFEST, WHITENING
from distill_core.artefact.distilled import Distilled
from distill_core.artefact.evaluations import Evaluation, read_evaluations
from distill_core.artefact.manifest import read_manifest
from distill_core.system.files import read_tensors, write_atomically, write_tensors

# The beginnings of paths of Unix and Windows, as a whole option or after an equals sign.
_PLACE = re.compile(r"(?:^|(?<==))(?:~|\.{1,2}[/\\]|/|[A-Za-z]:[/\\]|\\\\).*", re.DOTALL)
# Within a sentence: what begins like a path after a space, a quote or a bracket.
_INSIDE = re.compile(r"(?<=[\s'\"(])(?:~|[A-Za-z]:)?[/\\][^\s'\",;)]+")
_NAMES = "class_order"  # a class may be called "/m/04rky"
_LEFT_OUT = ("files", "hardware", "commands", "notices", "data_notes", "divergences")


def write_published(distilled: Distilled, out: Path) -> dict[str, Any]:
    """Write the file of a result, and a manifest, for `distill_core.load`.

    Args:
        distilled: the result, as `write_whitening` returned it.
        out: a folder, which has its whitening.

    Returns:
        What the manifest says, later evaluations too; empty if the result has none.

    Raises:
        InputError: a file of the run is damaged.
    """
    tensors, _ = read_tensors(distilled.path)
    storage = {"storage": distilled.storage.as_dict()}
    metadata = {
        **distilled.metadata,
        **storage,
        "components": without_places(distilled.metadata.get("components", {})),
    }
    write_tensors(out / distilled.path.name, tensors, metadata)
    if not distilled.path.with_name(MANIFEST).exists():
        return {}
    found = read_manifest(distilled.path.parent)
    kept = {name: value for name, value in found.items() if name not in _LEFT_OUT}
    files = {name: file_sha256(out / name) for name in (distilled.path.name, WHITENING)}
    evaluations = _evaluations_of(distilled, found)
    names = {_NAMES: kept[_NAMES]} if _NAMES in kept else {}
    record = {**without_places(kept), **names, **storage, "evaluations": evaluations}
    record["files"] = files
    write_atomically(out / MANIFEST, json.dumps(record, indent=1).encode())
    return record


def _evaluations_of(distilled: Distilled, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `distill evaluate` found later, for the state that is there now.

    Returns:
        By network, and protocol if that is not the recipe's: accuracies by what was trained on,
        "distilled" for example. Of two such the newer one counts.

    Raises:
        InputError: a file of an evaluation is damaged.
    """
    if "evaluations" in manifest:  # of a result that was published before
        stated: dict[str, Any] = manifest["evaluations"]
        return stated
    found = read_evaluations(distilled.path.parent, manifest.get("outer_steps"))
    return {_with_protocol(each): dict(each.results) for each in found}


def _with_protocol(each: Evaluation) -> str:
    usual = each.protocol == "recipe"
    return each.row if usual else f"{each.row}, protocol {each.protocol}"


def without_places(value: Any) -> Any:
    """Return plain values, in which the last part stands for every path of this machine.

    A relative path without dots stays: it cannot be told from a name such as "T-shirt/top".

    >>> without_places({"root": "/home/me/cats.zip", "lr": 0.1, "words": ["a=~/b/c", "x/y"]})
    {'root': 'cats.zip', 'lr': 0.1, 'words': ['a=c', 'x/y']}
    >>> without_places("vectors of '/home/me/clip.npz' and/or none")
    "vectors of 'clip.npz' and/or none"
    """
    if isinstance(value, str):
        return _INSIDE.sub(_last_part, _PLACE.sub(_last_part, value))
    if isinstance(value, Mapping):
        return {name: without_places(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(each) for each in value]
    return value


def _last_part(found: re.Match[str]) -> str:
    return re.split(r"[/\\]", found[0].rstrip("/\\"))[-1]

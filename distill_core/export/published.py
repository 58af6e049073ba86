"""A result as others get it: it can be loaded, and names no folder of the machine that made it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_core.artefact.artefact import file_sha256
from distill_core.artefact.contents import DISTILLED, EVALUATION, MANIFEST, WHITENING
from distill_core.artefact.distilled import Distilled
from distill_core.artefact.manifest import read_manifest
from distill_core.system.door import read_plain
from distill_core.system.files import parse_json, read_tensors, write_atomically, write_tensors
from registry import InputError

# The beginnings of paths of Unix and Windows, as a whole option or after an equals sign.
_PLACE = re.compile(r"(?:^|(?<==))(?:~|\.{1,2}[/\\]|/|[A-Za-z]:[/\\]|\\\\).*", re.DOTALL)
# Within a sentence: what begins like a path after a space, a quote or a bracket.
_INSIDE = re.compile(r"(?<=[\s'\"(])(?:~|[A-Za-z]:)?[/\\][^\s'\",;)]+")
_NAMES = "class_order"  # a class may be called "/m/04rky"
_LEFT_OUT = ("files", "hardware", "commands", "notices", "data_notes", "divergences")


def write_published(distilled: Distilled, out: Path) -> None:
    """Write distilled.safetensors, whitening.safetensors and a manifest for `distill_core.load`.

    Args:
        distilled: the result.
        out: a folder.

    Raises:
        InputError: a file of the run is damaged.
    """
    write_tensors(out / WHITENING, *read_tensors(distilled.path.with_name(WHITENING)))
    tensors, metadata = read_tensors(distilled.path)
    whitening = {**metadata["whitening"], "sha256": file_sha256(out / WHITENING)}
    metadata = {
        **metadata,
        "components": without_places(metadata.get("components", {})),
        "whitening": whitening,
    }
    write_tensors(out / DISTILLED, tensors, metadata)
    found = manifest_of(distilled)
    if found:
        kept = {name: value for name, value in found.items() if name not in _LEFT_OUT}
        files = {name: file_sha256(out / name) for name in (DISTILLED, WHITENING)}
        evaluations = evaluations_of(distilled, found)
        names = {_NAMES: kept[_NAMES]} if _NAMES in kept else {}
        record = {**without_places(kept), **names, "evaluations": evaluations, "files": files}
        write_atomically(out / MANIFEST, json.dumps(record, indent=1).encode())


def manifest_of(distilled: Distilled) -> dict[str, Any]:
    """Return the manifest beside a result; empty if there is none."""
    path = distilled.path.with_name(MANIFEST)
    return read_manifest(path.parent) if path.exists() else {}


def evaluations_of(distilled: Distilled, manifest: Mapping[str, Any]) -> dict[str, Any]:
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
    if not manifest:
        return {}  # nothing says of which state they are
    found: dict[str, Any] = {}
    paths = (distilled.path.parent / EVALUATION).glob("*.json")
    for path in sorted(paths, key=lambda path: (path.lstat().st_mtime_ns, path.name)):
        try:
            body = parse_json(read_plain(path))
            if body["outer_steps"] == manifest["outer_steps"]:
                for row, results in body["results"].items():
                    found[_with_protocol(row, body)] = dict(results)
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path} is damaged ({type(error).__name__}: {error}).",
                expected="what `distill evaluate` wrote.",
                next="delete it; `distill evaluate` makes it again.",
            ) from error
    return found


def _with_protocol(row: str, body: Mapping[str, Any]) -> str:
    settings = body.get("settings", {}).get(row, {}).get("evaluate", {})
    protocol = settings.get("protocol", "recipe")
    return row if protocol == "recipe" else f"{row}, protocol {protocol}"


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

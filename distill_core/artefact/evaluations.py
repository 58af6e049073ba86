"""What `distill evaluate` has found of a result, read from the files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_core.artefact.contents import EVALUATION, METRICS
from distill_core.system.files import objects_of, parse_json
from distill_core.system.plain_files import check_folder, read_plain
from registry import InputError


@dataclass(frozen=True)
class Evaluation:
    """What one call of `distill evaluate` found by the networks of one kind.

    Attributes:
        row: the network, as users type it, and what tells it from others of the same call.
        protocol: how these were trained, "recipe" as the result says.
        settings: of the network and of the judging; empty in files of early versions.
        results: by what was trained on, as `evaluate.Result.as_dict` writes them.
    """

    row: str
    protocol: str
    settings: Mapping[str, Any]
    results: Mapping[str, Any]


def read_evaluations(folder: Path, outer_steps: int | None) -> list[Evaluation]:
    """Read what was found of the state after some outer steps, oldest first.

    Args:
        folder: of the result.
        outer_steps: other states, as of a run that was resumed later, are left out; None: nothing
            says which state is there, so all are.

    Raises:
        InputError: a file is damaged; it is named.
    """
    found = []
    for path in _files(folder):
        try:
            body = parse_json(read_plain(path))
            if body["outer_steps"] != outer_steps:
                continue
            for row, results in body["results"].items():
                settings = dict(body.get("settings", {}).get(row, {}))
                protocol = str(settings.get("evaluate", {}).get("protocol", "recipe"))
                found.append(Evaluation(row, protocol, settings, dict(results)))
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise _damaged(path, error) from None
    return found


def _damaged(path: Path, error: BaseException) -> InputError:
    return InputError(
        f"{path} is damaged ({type(error).__name__}: {error}).",
        expected="what `distill evaluate` wrote.",
        next="delete it; `distill evaluate` makes it again.",
    )


def _files(folder: Path) -> list[Path]:
    """Return the files of `distill evaluate` as metrics.jsonl lists them, which copying keeps.

    Files that it does not list come first, by their own time.
    """
    listed = [line.get("file") for line in objects_of(folder / METRICS)]
    last = {name: k for k, name in enumerate(listed) if isinstance(name, str)}
    return sorted(
        check_folder(folder / EVALUATION).glob("*.json"),
        key=lambda each: (last.get(each.name, -1), each.lstat().st_mtime_ns, each.name),
    )

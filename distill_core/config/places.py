"""Options that say where something lies. A place is not a setting: the same data may be moved.

An option is a place if its type is a path, or if `about(..., place="yes")` marks it, as for an
option on how files get there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_core.config.run_config import RunConfig
from registry.options import Options, marked, takes_path

DATASET = "dataset"  # the kind whose places a fingerprint can vouch for


def path_options(model: type[Options]) -> set[str]:
    """Return the names of the options whose values are paths."""
    return {name for name in model.model_fields if takes_path(model, name)}


def places_of(config: RunConfig) -> dict[str, Any]:
    """Return the places of a run's data by their names on the command line, None where not given.

    With the same fingerprint of the data, all of them may change after the run began.
    """
    options = config.options.get(DATASET)
    if options is None:
        return {}
    names = path_options(type(options)) | set(marked(options, "place"))
    written = config.written_options()[DATASET]
    return {f"{DATASET}.{name}": written.get(name) for name in sorted(names)}


def how_to_move(config: RunConfig) -> str:
    """Return what to pass on the command line for another place of the data; empty: nothing can."""
    options = config.options.get(DATASET)
    names = sorted(path_options(type(options))) if options else []
    return " or ".join(f"-o {DATASET}.{name}=PATH" for name in names)


def arguments_for(places: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line that name these places.

    >>> arguments_for({"dataset.path": "/a b", "dataset.download": True, "dataset.root": None})
    ['-o', 'dataset.path="/a b"', '-o', 'dataset.download=true']
    """
    import json

    given = {name: json.dumps(value, ensure_ascii=False) for name, value in places.items()}
    return [word for n, v in given.items() if v != "null" for word in ("-o", f"{n}={v}")]

"""Which data a run has used, and the refusal of others when it is resumed or judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distill_core.artefact.result_file import result_file
from distill_core.config.places import how_to_move
from distill_core.config.run_config import RunConfig
from distill_core.data.identity import Identity
from distill_core.system.files import read_tensors
from registry import InputError

DATA = "data"  # the entry of a checkpoint's state
UNCHECKED = (
    "the run does not say which data it has used, since an earlier version of distill saved it: "
    "whether they have changed since was not checked"
)
Check = Callable[[Identity], None]


def data_of_state(state: Mapping[str, Any]) -> Identity | None:
    """Return the data that a checkpoint belongs to; None: an older distill did not note it."""
    return Identity.from_dict(state[DATA]) if state.get(DATA) else None


def data_of_artefact(run_dir: Path) -> Identity | None:
    """Return the data that an artefact was made from; None: there is no readable artefact."""
    try:
        _, said = read_tensors(result_file(run_dir), ())
        return Identity(str(said["dataset_fingerprint"]), tuple(map(str, said["class_names"])))
    except (InputError, KeyError, TypeError):
        return None


def only(known: Identity | None, run_dir: Path, config: RunConfig) -> Check:
    """Return the check of data that were read against those of a run; None: all pass."""

    def check(found: Identity) -> None:
        if known is not None:
            known.refuse_other(found, whose=str(run_dir), elsewhere=how_to_move(config))

    return check

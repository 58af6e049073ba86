"""The gallery: distilled sets that come with distill, with what is known of them.

An entry is a folder of `distill_core/artefact/entries`:

distilled.safetensors or stored.safetensors (`result_file.py`), whitening.safetensors,
manifest.json, poster.png
facts.json   title, dataset (the component that names the source, wherever the run read its
             pictures), network, accuracies of each seed, bytes, command, date, licence

`benchmarks/gallery.py` makes one out of a finished run, and `docs/gallery.md` out of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from distill_core.system.files import parse_json
from registry import UnknownNameError

ENTRIES = Path(__file__).with_name("entries")
FACTS = "facts.json"
HEADERS = ("entry", "accuracy", "network", "bytes", "title")


def entry_names(folder: Path = ENTRIES) -> list[str]:
    """Return the names of all entries, sorted."""
    return sorted(path.parent.name for path in folder.glob(f"*/{FACTS}"))


def entry_folder(name: str, folder: Path = ENTRIES) -> Path:
    """Return the folder of an entry.

    Raises:
        UnknownNameError: there is none of this name.
    """
    names = entry_names(folder)
    if name not in names:
        raise UnknownNameError(
            "gallery entry", name, known=names, next="`distill list gallery` describes them."
        )
    return folder / name


def read_facts(name: str, folder: Path = ENTRIES) -> dict[str, Any]:
    """Return what facts.json says of an entry; its accuracies are fractions.

    Raises:
        UnknownNameError: there is none of this name.
    """
    found: dict[str, Any] = parse_json((entry_folder(name, folder) / FACTS).read_bytes())
    return found


def with_source(components: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Return the components of a run, with the dataset that names the source of its data."""
    return {**components, "dataset": {"name": dataset}}


def rows(folder: Path = ENTRIES) -> list[tuple[str, ...]]:
    """Return one row of `HEADERS` for each entry."""
    found = ((name, read_facts(name, folder)) for name in entry_names(folder))
    return [
        (name, accuracy_text(facts), facts["network"], f"{facts['bytes']:,}", facts["title"])
        for name, facts in found
    ]


def accuracy_text(facts: dict[str, Any]) -> str:
    """Return accuracy in percent: a mean over seeds of means over networks, with its spread.

    >>> accuracy_text({"seeds": {"0": {"mean": 0.9, "nets": 8}, "1": {"mean": 0.8, "nets": 8}}})
    '85.0 ± 7.1 % (2 seeds x 8 networks)'
    >>> accuracy_text({"seeds": {"0": {"mean": 0.9, "nets": 8}}})
    '90.0 % (1 seed x 8 networks)'
    """
    seeds = list(facts["seeds"].values())
    means = [100 * each["mean"] for each in seeds]
    spread = f" ± {stdev(means):.1f}" if len(means) > 1 else ""
    nets = "/".join(str(count) for count in sorted({each["nets"] for each in seeds}))
    plural = "s" if len(means) > 1 else ""
    return f"{mean(means):.1f}{spread} % ({len(means)} seed{plural} x {nets} networks)"

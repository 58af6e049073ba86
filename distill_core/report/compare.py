"""Runs side by side: one row of numbers for each, and the table as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_core.artefact.storage import Storage
from distill_core.hookspecs import Preset
from distill_core.report.other_data import other_data
from distill_core.report.record import WHAT, RecordedAccuracy, RunRecord, read_run
from distill_core.system.units import size_text
from registry import InputError, UnknownNameError

HEADERS = {
    "run": "run",
    "method": "repr/labeler/orderer/algo",
    "dataset": "dataset",
    "ipc": "IPC",
    "distilled": "distilled %",
    "random": "random real %",
    "random_bytes": "real, equal bytes %",
    "full": "full %",
    "backbone": "judged by",
    "pixels": "pixels",
    "label_numbers": "label numbers",
    "numbers": "stored numbers",
    "bytes": "bytes",
    "bits_per_class": "bits per class",
    "ipc_pixels": "IPC by pixels",
    "ipc_bytes": "IPC by bytes",
    "outer_steps": "outer steps",
    "seconds_per_step": "s/step",
    "peak_memory": "peak memory",
    "reported": "reported (paper's)",
}
# Sorted with the largest value first.
LARGEST_FIRST = WHAT
SAME = ("repr", "labeler", "algo", "dataset", "ipc")
MEASURED = ("numbers", "bytes", "bits_per_class", "ipc_pixels", "ipc_bytes")  # not of older runs
MISSING = "-"


def read_runs(paths: Iterable[Path]) -> tuple[list[RunRecord], list[str]]:
    """Read run directories; return one line for each that cannot be used, with the reason.

    Raises:
        InputError: none can be used.
    """
    records, failures = [], []
    for path in paths:
        try:
            records.append(read_run(path))
        except InputError as error:
            failures.append(error.what)
    if not records:
        raise InputError(
            "no run can be used: " + " ".join(failures),
            expected="directories that `distill run` made, with a result.",
            next="check the paths; `distill run --resume --out DIR` finishes a run, `distill "
            "evaluate DIR` judges one.",
        )
    return records, failures


def compare(
    records: Sequence[RunRecord], presets: Mapping[str, Preset], *, sort: str | None = None
) -> list[dict[str, Any]]:
    """Return a row for each run, with the keys of `HEADERS`; None for a missing value.

    Accuracies are those of `RunRecord.verdict`.

    Args:
        records: the runs.
        presets: supply the figures that papers report.
        sort: one of `HEADERS`; accuracies from the best down. None: as given.

    Raises:
        UnknownNameError: the column is unknown.
    """
    if sort is not None and sort not in HEADERS:
        raise UnknownNameError("column", sort, known=HEADERS, next="correct --sort.")
    rows = [_row(record, presets) for record in records]
    if sort is not None:
        rows.sort(key=lambda row: _rank(row[sort], largest_first=sort in LARGEST_FIRST))
    return rows


def not_alike(records: Sequence[RunRecord]) -> list[str]:
    """Return a line for each dataset whose images are not the same in all runs, and for each run
    whose settings were edited later."""
    edited = (
        f"{record.name}: run.toml was edited after the result was saved, so that its settings may "
        "not be those of the result"
        for record in records
        if record.edited
    )
    return [*other_data((r.name, r.data_name, r.manifest) for r in records), *edited]


def reported(config: Mapping[str, Any], presets: Mapping[str, Preset]) -> str | None:
    """Return a paper's figure for a run's combination, dataset and budget, if a preset has one.

    The paper's run may have been longer or larger.
    """
    for preset in presets.values():
        if preset.reported and all(config.get(n) == preset.config.get(n) for n in SAME):
            return preset.reported
    return None


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return the cells of a row as text, in the order of `HEADERS`."""
    return [_cell(name, row[name]) for name in HEADERS]


def filled(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows as text, without the columns that have nothing in any row."""
    columns = zip(HEADERS.values(), *map(cells, rows), strict=True)
    headers, *body = map(list, zip(*(c for c in columns if {*c[1:]} != {MISSING}), strict=True))
    return headers, body


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write a Markdown table."""
    headers, body = filled(rows)
    lines = [headers, ["---"] * len(headers), *body]
    return "\n".join("| " + " | ".join(map(_safe, line)) + " |" for line in lines)


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with accuracies as tables of mean, std and nets."""
    return {n: vars(v) if isinstance(v, RecordedAccuracy) else v for n, v in row.items()}


def _row(record: RunRecord, presets: Mapping[str, Preset]) -> dict[str, Any]:
    config, manifest, judged = record.config, record.manifest, record.verdict
    budget, steps = manifest["budget"], manifest["outer_steps"]
    storage = Storage.read(manifest.get("storage"))
    method = "/".join(str(config.get(n, "?")) for n in ("repr", "labeler", "orderer", "algo"))
    return {
        "run": record.name,
        "method": method,
        "dataset": record.data_name,
        "ipc": budget["ipc"],
        "pixels": budget["pixels"],
        "label_numbers": budget["label_numbers"],
        **{name: getattr(storage, name, None) for name in MEASURED},
        "outer_steps": steps,
        "seconds_per_step": manifest["seconds"] / steps if steps else None,
        "peak_memory": manifest.get("peak_memory"),
        "backbone": judged.backbone,
        **{what: judged.results.get(what) for what in LARGEST_FIRST},
        "reported": reported(config, presets),
    }


def _cell(name: str, value: Any) -> str:
    if value is None:
        return MISSING
    match name:
        case "ipc" | "ipc_pixels" | "ipc_bytes":
            return f"{value:.3g}"
        case "pixels" | "bits_per_class":
            return f"{value:.0f}"
        case "seconds_per_step":
            return f"{value:.2f}"
        case "peak_memory":
            return size_text(value)
    return str(value)


def _rank(value: Any, *, largest_first: bool) -> tuple[bool, Any]:
    """Runs without a value come last."""
    if value is None:
        return (True, 0)
    number = value.mean if isinstance(value, RecordedAccuracy) else value
    return (False, -number if largest_first else number)


def _safe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

"""The page: its sections in order, all text escaped, nothing loaded from elsewhere."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from distill_core.artefact.contents import POSTER, REPORT, TIMELAPSE
from distill_core.artefact.last_set import current
from distill_core.hookspecs import Preset
from distill_core.report.compare import HEADERS, MISSING, cells, compare, filled, not_alike
from distill_core.report.curves import about, budget_chart, learning_series
from distill_core.report.means import Group, grouped, table
from distill_core.report.opening import opening
from distill_core.report.poster import data_uri, poster_html
from distill_core.report.record import TABLES, WHAT, RunRecord, columns_of, read_run
from distill_core.report.svg import chart
from distill_core.run.notices import Notice
from distill_core.system.files import write_atomically

# Only what is in the file may be used; class names and notes are not to be trusted.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
SEEDS = "Mean and sample deviation over runs that differ in their seed alone."
SECTIONS = ("data", "engine", "evaluate")


def write_report(records: Sequence[RunRecord], presets: Mapping[str, Preset], out: Path) -> None:
    """Write the page about one run, or the comparison of several, atomically.

    Raises:
        InputError: the artefact of a single run is missing or damaged.
        EnvironmentFault: the page cannot be written.
    """
    page = one_run(records[0], presets) if len(records) == 1 else several(records, presets)
    write_atomically(out, page.encode())


def report_of(run_dir: Path, presets: Mapping[str, Preset]) -> str:
    """Write the page of a run that has just ended; return a line about it, also after an error.

    The run is done and saved: an error here must not make it fail.
    """
    try:
        write_report([read_run(run_dir)], presets, run_dir / REPORT)
    except Exception as error:
        return f"report   not written: {error}"
    return f"report   {run_dir / REPORT}"


def one_run(record: RunRecord, presets: Mapping[str, Preset]) -> str:
    """Return the page about one run."""
    (row,) = compare([record], presets)
    found = zip(HEADERS, cells(row), strict=True)
    facts = {HEADERS[n]: text for n, text in found if n not in WHAT and text != MISSING}
    timelapse = record.path / TIMELAPSE
    shown = poster_html(record.path)
    parts = [
        opening(record, shown.poster),
        _section("Warnings", _notices(record)),
        _section("Time-lapse", f'<img class="time" alt="time-lapse" src="{data_uri(timelapse)}">')
        if timelapse.exists()
        else "",
        _curves([record]),
        shown.labels,
        _section("Networks", _judgements(record)),
        _section("Accuracy by class", _by_class(record)),
        _section("Settings", _facts(facts | _recorded(record)) + _data_notes(record)),
        _section("Command", _commands(record)),
    ]
    return _page(record.name, parts, kind="run")


def several(records: Sequence[RunRecord], presets: Mapping[str, Preset]) -> str:
    """Return the page that compares runs, with a line where these have used other images."""
    headers, rows = filled(compare(records, presets))
    posters = "".join(
        f'<figure><img class="thumb" alt="" src="{data_uri(current(record.path) / POSTER)}">'
        f"<figcaption>{escape(record.name)}</figcaption></figure>"
        for record in records
        if (record.path / POSTER).exists()
    )
    groups = grouped(records)
    parts = [
        _section("Runs", _table(headers, rows) + "".join(map(_note, not_alike(records)))),
        _means(groups),
        _section("Accuracy by budget", budget_chart(groups)),
        _curves(records),
        _section("Posters", f'<div class="thumbs">{posters}</div>'),
        *(_section(record.name, _commands(record)) for record in records),
    ]
    return _page(f"{len(records)} runs", parts, kind="runs")


def _means(groups: Sequence[Group]) -> str:
    """Show means over seeds, where some runs differ in nothing else or several networks judged."""
    headers, rows = table(groups)
    if len(rows) == sum(len(group.records) for group in groups):
        return ""
    return _section("Means over seeds", _table(headers, rows) + _note(SEEDS))


def command_of(config: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, with every option.

    >>> command_of({"repr": "poster", "ipc": 0.4, "data": {"validation": 0.1}})
    'distill run -o run.repr=poster -o run.ipc=0.4 -o data.validation=0.1'
    """
    pairs = [
        (f"run.{name}", value) for name, value in config.items() if not isinstance(value, dict)
    ]
    tables = {name: config.get(name, {}) for name in SECTIONS} | dict(config.get("options", {}))
    pairs += [(f"{kind}.{name}", value) for kind, t in tables.items() for name, value in t.items()]
    texts = [
        f"{name}={value if isinstance(value, str) else json.dumps(value, default=str)}"
        for name, value in pairs
    ]
    return shlex.join(["distill", "run", *(word for text in texts for word in ("-o", text))])


def _judgements(record: RunRecord) -> str:
    shown = columns_of(each.results for each in record.judgements)
    headers = ["network", *(HEADERS[what] for what in shown)]
    body = [
        [each.backbone, *(str(each.results.get(what, "-")) for what in shown)]
        for each in record.judgements
    ]
    facts = list(dict.fromkeys(note for each in record.judgements for note in each.notes))
    notes = [_note("Mean and sample deviation of freshly trained networks."), *map(_note, facts)]
    return _table(headers, body) + "".join(notes)


def _notices(record: RunRecord) -> str:
    found = record.manifest.get("notices", ())
    return "".join(_note(str(Notice(each["what"], each["next"]))) for each in found)


def _by_class(record: RunRecord) -> str:
    """A table that opens at a click: every class, and balanced accuracy below them."""
    if not (found := record.by_class):
        return ""
    first = next(iter(found.values()))
    columns = [[_percent(a) for a in (*each.accuracies, each.balanced)] for each in found.values()]
    names, images = (*first.names, "balanced"), (*first.images, sum(first.images))
    headers = ["class", "test images", *(f"{what} %" for what in found)]
    rows = list(zip(map(str, names), map(str, images), *columns, strict=True))
    summary = f"<summary>Balanced: {', '.join(column[-1] for column in columns)} %</summary>"
    note = _note("Balanced accuracy: the mean over classes; mean over the run's networks.")
    return f"<details>{summary}{_table(headers, rows)}</details>{note}"


def _percent(accuracy: float | None) -> str:
    return MISSING if accuracy is None else f"{100 * accuracy:.1f}"


def _curves(records: Sequence[RunRecord]) -> str:
    series = learning_series(records)
    if not (drawn := chart(series, x="outer step", y="accuracy, %")):
        return ""
    return _section("Learning curves", drawn + _note(about(series)))


def _commands(record: RunRecord) -> str:
    """Show the command lines as typed, if known, and one with every option."""
    typed = [shlex.join(map(str, words)) for words in record.manifest.get("commands", ())]
    parts = [f"<pre>{escape(text)}</pre>" for text in typed]
    every = f"<pre>{escape(command_of(record.config))}</pre>"
    summary = "<summary>With every option named</summary>"
    return "".join([*parts, f"<details>{summary}{every}</details>"])


def _data_notes(record: RunRecord) -> str:
    notes = record.manifest.get("data_notes")
    return "".join(_note(f"data: {each}") for each in notes) if isinstance(notes, list) else ""


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _recorded(record: RunRecord) -> dict[str, str]:
    shown = ("written", "seed", "engine", "averaged", "best_step", "processes")
    facts = {name: record.manifest.get(name) for name in shown}
    for name in TABLES:
        facts |= {f"{name}: {key}": v for key, v in record.manifest.get(name, {}).items()}
    return {name: str(value) for name, value in facts.items() if value is not None}


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th>{escape(n)}</th><td>{escape(v)}</td></tr>" for n, v in facts.items())
    return f'<table class="facts">{rows}</table>'


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in headers)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(text: str) -> str:
    """A number with its deviation stays on one line; texts are wrapped."""
    kind = ' class="number"' if text[:1].isdigit() else ""
    return f"<td{kind}>{escape(text)}</td>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _page(title: str, parts: Sequence[str], *, kind: str) -> str:
    here = files(__package__)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{(here / 'style.css').read_text()}</style></head>"
        f'<body class="{kind}"><h1>{escape(title)}</h1>{"".join(parts)}'
        f"<script>{(here / 'script.js').read_text()}</script></body></html>\n"
    )

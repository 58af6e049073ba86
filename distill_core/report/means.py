"""Runs that differ in nothing but their seed, together: means and deviations over seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill_core.config.settings import MACHINE, flatten
from distill_core.hookspecs import BY_OPTION
from distill_core.report.compare import HEADERS
from distill_core.report.record import Judgement, RunRecord, columns_of

METHOD = ("repr", "labeler", "orderer", "algo")
OUTSIDE = ("seed", "format", "evaluate.backbones", *MACHINE)
BUDGET = "ipc"


@dataclass(frozen=True)
class Group:
    """Runs with the same settings, each with a seed of its own.

    Attributes:
        settings: what tells the group from the others, by name; without those of all groups.
        records: the runs.
    """

    settings: dict[str, str]
    records: tuple[RunRecord, ...]

    def label(self, *without: str) -> str:
        """Return the settings as text, or the method where nothing tells the groups apart."""
        found = [f"{n}={value}" for n, value in self.settings.items() if n not in without]
        if found:
            return ", ".join(found)
        config = self.records[0].config
        return "/".join(str(config.get(name, "?")) for name in METHOD)

    def networks(self) -> list[str]:
        """Return the names of the networks that judged, the run's own first."""
        judged = (each.name for record in self.records for each in record.judgements)
        return list(dict.fromkeys([self.records[0].verdict.name, *judged]))

    def accuracies(self, network: str, what: str) -> list[float]:
        """Return one mean accuracy for each seed of which this network judged a run.

        Runs of one seed, as a run and its copy, count once, with their mean.
        """
        found: dict[str, list[float]] = {}
        for record in self.records:
            judged = last_by(record, network)
            if judged and what in judged.results:
                seed = str(record.config.get("seed", 0))  # an edited run.toml may have a list
                found.setdefault(seed, []).append(judged.results[what].mean)
        return [statistics.fmean(each) for each in found.values()]


def grouped(records: Sequence[RunRecord]) -> list[Group]:
    """Put runs together that differ in their seed alone, in the order of their first."""
    plain = [_settings(record) for record in records]
    members: dict[str, list[int]] = {}
    for k, settings in enumerate(plain):
        members.setdefault(json.dumps(settings, sort_keys=True), []).append(k)
    firsts = [plain[places[0]] for places in members.values()]
    names = [name for name in dict.fromkeys(n for s in firsts for n in s) if _differs(name, firsts)]
    return [
        Group(
            {
                name: plain[places[0]].get(name, "-")
                for name in names
                if name in plain[places[0]] or not _kind(name)
            },
            tuple(records[k] for k in places),
        )
        for places in members.values()
    ]


def table(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows: one for each group and each network that judged."""
    judged = (each.results for g in groups for record in g.records for each in record.judgements)
    shown = columns_of(judged)
    headers = ["settings", "network", "seeds", HEADERS["bytes"], *(HEADERS[what] for what in shown)]
    body = [
        [
            group.label(),
            network,
            str(len(group.accuracies(network, "distilled"))),
            stored(record.manifest for record in group.records),
            *(spread(group.accuracies(network, what)) for what in shown),
        ]
        for group in groups
        for network in group.networks()
    ]
    return headers, body


def spread(accuracies: Collection[float]) -> str:
    """Return mean and sample deviation (ddof = 1) over seeds as text, in percent.

    >>> spread([0.5, 0.6]), spread([0.5]), spread([])
    ('55.0 +- 7.1', '50.0', '')
    """
    if not accuracies:
        return ""
    mean = f"{100 * statistics.fmean(accuracies):.1f}"
    if len(accuracies) == 1:
        return mean
    return f"{mean} +- {100 * statistics.stdev(accuracies):.1f}"


def stored(manifests: Iterable[Mapping[str, Any]]) -> str:
    """Return as text how many bytes runs store, and from least to most where they differ.

    >>> stored([{"storage": {"bytes": 670}}, {}]), stored([{}])
    ('670', '')
    """
    tables = (manifest.get("storage") or {} for manifest in manifests)
    found = {table["bytes"] for table in tables if "bytes" in table}
    ends = (min(found), max(found)) if len(found) > 1 else found
    return " to ".join(map(str, ends))


def last_by(record: RunRecord, network: str) -> Judgement | None:
    """Return the newest judgement of a run by a network."""
    return next((each for each in reversed(record.judgements) if each.name == network), None)


def _settings(record: RunRecord) -> dict[str, str]:
    found = flatten(record.config)
    return {name: str(value) for name, value in found.items() if name not in OUTSIDE}


def _differs(name: str, settings: Sequence[dict[str, str]]) -> bool:
    """Say whether a setting tells groups apart; a component's option only among those that use it.

    Other components have other options, and the component's name tells them apart already.
    """
    kind = _kind(name)
    chosen = {each.get(kind) for each in settings}
    return any(
        len({each.get(name) for each in settings if each.get(kind) == one}) > 1 for one in chosen
    )


def _kind(name: str) -> str:
    """Return the kind of the component that a setting is an option of; empty: it is none.

    >>> _kind("algo.window"), _kind("algo"), _kind("evaluate.nets")
    ('algo', '', '')
    """
    kind, dot, _ = name.partition(".")
    return kind if dot and kind in BY_OPTION else ""

"""Every representation with every labeler and every algorithm: what each combination does.

`tests/test_matrix.py` tries all of them; `docs/matrix.md` is the table of their outcomes, written
by

    python -m tests.matrix

and the tests fail where the page is not what they find. The components are those of the catalogues,
so a new one is tried by existing.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill_core.config.run_config import RunConfig
from distill_core.run.assemble import assemble
from distill_core.run.checkpoint import load_checkpoint
from distill_core.run.loop import OuterLoop
from distill_core.system.files import write_atomically
from registry import ExplainedError
from tests.distill_core.small_run import installed, small_config

Cell = tuple[str, str, str]

PAGE = Path(__file__).parents[1] / "docs" / "matrix.md"
PLUGINS = installed()
RUNS = "runs"
# What makes an algorithm quick; one that is not named here is tried with its defaults.
QUICK: dict[str, dict[str, Any]] = {
    "ratbptt": {"window": 2, "total": 4, "batch": 8, "real_batch": 16, "inner_lr": 0.01},
    "bptt": {"steps": 3, "real_per_class": 4},
    "dd": {"steps": 3},
    "mtt": {"syn_steps": 3, "experts": 2},
    "ftd": {"syn_steps": 3, "experts": 2},
    "tesla": {"syn_steps": 3, "experts": 2},
    "rcig": {
        "pool": 2,
        "inner_steps": 3,
        "inner_lr": 0.1,
        "inverse_steps": 3,
        "inverse_lr": 0.1,
    },
}
CELLS: list[Cell] = [
    (representation, labeler, algorithm)
    for representation in PLUGINS["representation"].names()
    for labeler in PLUGINS["labeler"].names()
    for algorithm in PLUGINS["algorithm"].names()
]
HEAD = """# What runs with what

Every representation with every labeler and every algorithm that comes with distill, tried for two
outer steps on a tiny problem. Representations with the same outcomes share a table. A number stands
for a combination that is refused before the first update, for a reason given at the end.

What the parts are: [representations](guide/representations.md), [algorithms and the labeler
`teacher`](guide/algorithms.md), [labels by position](concepts.md#labels-from-geometry). This page
is written by `python -m tests.matrix`, and `tests/test_matrix.py` repeats all of it.
"""


def configured(cell: Cell, steps: int) -> RunConfig:
    """Return the small run of a combination."""
    representation, labeler, algorithm = cell
    quick = {
        "poster": {"patches": "2x5"},
        "ddif": {"width": 3, "fit_steps": 2},
        "gsdd": {"fit_steps": 2},
        "speed": {"tokens": 3, "dim": 4, "kept": 5, "fit_steps": 2},
    }
    return small_config(
        repr=representation,
        labeler=labeler,
        algo=algorithm,
        ipc=1.0 if representation != "basis" else 2.0,
        steps=steps,
        options={"repr": quick.get(representation, {}), "algo": QUICK.get(algorithm, {})},
    )


def run(config: RunConfig, folder: Path, *, go_on: bool = False) -> OuterLoop:
    """Make the outer steps of a configuration, from its checkpoint if asked."""
    state = load_checkpoint(folder, config) if go_on else {}
    assembly = assemble(config, PLUGINS, class_grid=state.get("class_grid"), start=not go_on)
    loop = OuterLoop(assembly, folder)
    if go_on:
        loop.load_state_dict(state)
    assert loop.run()
    return loop


def outcome_of(refusal: ExplainedError | None, cell: Cell) -> str:
    """Say in one line what became of a combination, without the names of its parts.

    So one reason is one footnote, however many combinations it refuses.
    """
    if refusal is None:
        return RUNS
    text = re.sub(r"\s+", " ", str(refusal))
    for kind, name in zip(("representation", "labeler", "algorithm"), cell, strict=True):
        text = text.replace(f"{kind} '{name}'", f"the {kind}")
    return text[0].upper() + text[1:]


def page(outcomes: Mapping[Cell, str]) -> str:
    """Write the page: a table for representations that have the same outcomes, and the reasons."""
    tables: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for representation in dict.fromkeys(cell[0] for cell in outcomes):
        mine = tuple(
            (*cell[1:], text) for cell, text in outcomes.items() if cell[0] == representation
        )
        tables.setdefault(mine, []).append(representation)
    reasons: dict[str, int] = {}
    parts = [HEAD]
    for rows, names in tables.items():
        of = {(labeler, algorithm): text for labeler, algorithm, text in rows}
        labelers = list(dict.fromkeys(labeler for labeler, _ in of))
        lines = [
            f"## {', '.join(names)}\n",
            f"| algorithm | {' | '.join(f'`{labeler}`' for labeler in labelers)} |",
            f"|---{'|---' * len(labelers)}|",
        ]
        for algorithm in dict.fromkeys(algorithm for _, algorithm in of):
            texts = [of[labeler, algorithm] for labeler in labelers]
            marks = [
                text if text == RUNS else str(reasons.setdefault(text, len(reasons) + 1))
                for text in texts
            ]
            lines.append(f"| `{algorithm}` | {' | '.join(marks)} |")
        parts.append("\n".join(lines) + "\n")
    numbered = [f"{number}. {text}" for text, number in reasons.items()]
    if numbered:
        parts.append("## Reasons\n\n" + "\n".join(numbered) + "\n")
    return "\n".join(parts)


def read(text: str) -> dict[Cell, str]:
    """Read a page back: what it says of each combination."""
    reasons = dict(re.findall(r"^(\d+)\. (.+)$", text, flags=re.MULTILINE))
    outcomes: dict[Cell, str] = {}
    for part in text.split("\n## ")[1:]:
        rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line[:3] == "| `"]
        labelers = re.findall(r"`(\w+)`", part.partition("|---")[0])
        for algorithm, *marks in rows:
            for labeler, mark in zip(labelers, marks, strict=True):
                for representation in part.split("\n", 1)[0].split(", "):
                    cell = (representation, labeler, algorithm.strip("`"))
                    outcomes[cell] = reasons.get(mark, mark)
    return outcomes


def write() -> None:
    """Try every combination and write the page."""
    outcomes: dict[Cell, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DISTILL_CACHE"] = str(Path(folder, "cache"))
        for cell in CELLS:
            refusal = None
            try:
                run(configured(cell, 2), Path(folder, "-".join(cell)))
            except ExplainedError as error:
                refusal = error
            outcomes[cell] = outcome_of(refusal, cell)
    write_atomically(PAGE, page(outcomes).encode())


if __name__ == "__main__":
    write()

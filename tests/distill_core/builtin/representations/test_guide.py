"""The table of docs/guide/representations.md against what is made of 1 IPC of CIFAR-10."""

from __future__ import annotations

import re
from pathlib import Path

from distill_core.config.run_config import resolve
from distill_core.config.settings import merge, parse_overrides
from distill_core.contracts.data import DataSpec
from distill_core.run.plan import Plan
from tests.distill_core.small_run import installed

GUIDE = Path(__file__).parents[4] / "docs" / "guide" / "representations.md"
ROW = re.compile(r"^\| `(\w+)(?: -o ([\w.=]+))?` \|.*\| ([\d,]+)(?: patches)? \|$", re.MULTILINE)
CIFAR10 = DataSpec("cifar10", tuple("0123456789"), (3, 32, 32), ())
PARTS = {"labeler": "onehot", "orderer": "identity", "algo": "ratbptt", "dataset": "cifar10"}


def test_the_guide_counts_the_training_images_that_are_made() -> None:
    rows = ROW.findall(GUIDE.read_text())
    assert {name for name, *_ in rows} == set(installed()["representation"])
    made = []
    for name, option, _ in rows:
        words = merge({**PARTS, "repr": name}, parse_overrides([option] if option else []))
        plan = Plan.of(resolve(words, installed()), installed(), ("representation", "algorithm"))
        made.append(f"{len(plan.representation(CIFAR10, 1.0).layout.items):,}")
    assert made == [count for *_, count in rows]

from __future__ import annotations

import json
from pathlib import Path

from tests.distill_core.cli.fakes import distill

SMALL = (
    *("--dataset", "shapes", "-o", "dataset.size=8", "-o", "dataset.train_per_class=5"),
    *("-o", "dataset.test_per_class=2", "-o", "backbone.width=4", "-o", "backbone.depth=1"),
    *("-o", "run.threads=1"),
)


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "experts").rglob("*.safetensors"))


def test_experts_are_made_once(own_cache: Path) -> None:
    result = distill("experts", "--algo", "mtt", "--count", "2", *SMALL)
    assert result.exit_code == 0, result.stderr
    assert "0 of 2 are there; 2 to make, 4 epochs each: about " in result.stdout
    assert result.stdout.endswith("experts  all are there\n")
    assert kept(own_cache) == ["0000.safetensors", "0001.safetensors"]
    again = distill("experts", "--algo", "mtt", "--count", "3", *SMALL)
    assert "2 of 3 are there; 1 to make" in again.stdout
    assert len(kept(own_cache)) == 3
    noted = distill("experts", "--algo", "mtt", "--count", "3", "--json", *SMALL)
    found = json.loads(noted.stdout)
    assert (found["algo"], found["options"]["algo"]["experts"]) == ("mtt", 3)
    assert noted.stderr.endswith("experts  all are there\n")


def test_a_run_makes_what_is_missing(own_cache: Path, tmp_path: Path) -> None:
    result = distill(
        *("run", "--repr", "images", "--labeler", "soft", "--orderer", "identity"),
        *("--algo", "mtt", "--ipc", "1", "--steps", "2", "--out", str(tmp_path / "run")),
        *("-o", "algo.syn_steps=3", "-o", "algo.experts=2", "-o", "evaluate.nets=1"),
        *("-o", "evaluate.steps=2", "-o", "evaluate.full_steps=2", *SMALL),
    )
    assert result.exit_code == 0, result.stderr
    assert "0 of 2 are there; 2 to make" in result.stdout
    assert len(kept(own_cache)) == 2


def test_an_algorithm_without_experts_is_refused() -> None:
    result = distill("experts", "--algo", "ratbptt", *SMALL)
    assert result.exit_code == 2
    assert "algorithm 'ratbptt' uses no expert trajectories." in result.stderr


def test_the_algorithm_must_be_named() -> None:
    result = distill("experts", *SMALL)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[:2] == [
        "nothing says which algo to use.",
        "Expected --algo, or a file or preset with it.",
    ]

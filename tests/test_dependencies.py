"""docs/dependencies.md says what pyproject.toml says, of every dependency."""

from __future__ import annotations

import re
import tomllib

from tests.distill_core.cli.fakes import ROOT


def test_the_page_lists_every_dependency_with_its_range() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w-]+) \| (\S+) \| [\d.]+ \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE)
    assert sorted(name + bounds for name, bounds in rows) == sorted(wanted)


def test_every_dependency_has_a_floor_and_a_ceiling() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    assert [each for each in wanted if not re.fullmatch(r"[\w-]+>=[\d.]+,<\d+", each)] == []

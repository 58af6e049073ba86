"""Records and posters of a run that goes on: they are of one set of files."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_core.artefact.last_set import keep, release
from distill_core.report import poster, record

FIXTURE = Path(__file__).parents[2] / "fixtures" / "run-v1"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that has begun to write its next result."""
    path = shutil.copytree(FIXTURE, tmp_path / "run")
    keep(path)
    return path


@pytest.mark.parametrize(
    ("module", "name", "read"),
    [(record, "settings_of", record.read_run), (poster, "load_whole", poster.poster_html)],
    ids=["record", "poster"],
)
def test_what_a_run_replaces_meanwhile_is_read_again(
    module: Any,
    name: str,
    read: Callable[[Path], object],
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner = getattr(module, name)

    def slow(*given: object, **named: object) -> object:
        release(run_dir)
        return inner(*given, **named)

    monkeypatch.setattr(module, name, slow)
    assert read(run_dir)


def test_the_poster_is_that_of_the_set(run_dir: Path) -> None:
    old = (run_dir / "poster.png").read_bytes()
    (run_dir / "poster.png").unlink()  # it is a link
    (run_dir / "poster.png").write_bytes(b"of the next result")
    assert base64.b64encode(old).decode() in poster.poster_html(run_dir).poster

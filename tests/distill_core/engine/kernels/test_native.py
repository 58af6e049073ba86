"""Compiling, keeping and loading the C blocks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill_core.engine.kernels import native
from distill_core.engine.kernels.native import Unavailable, library, outcome


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and a loader that has loaded nothing.

    It compiles without optimising, which takes a tenth of the time: what is compiled and kept is
    the same source by the same steps, and all other tests compute with the optimised library.
    """
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "_COMMON", ("-O0", "-shared", "-fPIC"))
    outcome.cache_clear()
    yield tmp_path / "kernels"
    outcome.cache_clear()


def test_it_is_compiled_once_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library()
    (kept,) = cache.iterdir()
    assert kept.stat().st_mode & 0o022 == 0
    outcome.cache_clear()
    monkeypatch.setattr(native, "_compile", lambda *_: pytest.fail("compiled again"))
    library()


def test_a_library_that_others_can_write_is_not_loaded(cache: Path) -> None:
    library()
    (kept,) = cache.iterdir()
    kept.unlink()  # writing into a loaded library would end this process
    kept.write_bytes(b"planted")
    kept.chmod(0o777)
    outcome.cache_clear()
    library()
    assert kept.read_bytes()[:4] != b"plan"


def test_a_damaged_library_is_compiled_anew(cache: Path) -> None:
    kept = native._path(native._compiler())
    kept.parent.mkdir()
    kept.write_bytes(b"half of a libr")
    kept.chmod(0o700)
    library()
    assert kept.stat().st_size > 1000


def test_a_wrapper_before_the_compiler(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "wrap"
    wrapper.write_text('#!/bin/sh\necho "$@" >> "${0%/*}/calls"\nexec "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CC", f"'{wrapper}' cc")
    library()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "cc --version"
    assert all(call.startswith("cc ") for call in calls)


def test_no_compiler_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match="there is no C compiler"):
        library()


def test_a_compiler_that_fails_is_quoted(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "mycc"
    fake.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\nprintf x >> "${0%/*}/tries"\n'
        'echo "mycc: broken" >&2; exit 1\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("CC", str(fake))
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"does not compile the blocks: mycc: broken"):
            library()
    assert (tmp_path / "tries").read_text() == len(native._FLAGS) * "x"  # and not again
    assert not list(cache.iterdir())


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_said(cache: Path) -> None:
    cache.parent.chmod(0o500)
    with pytest.raises(Unavailable, match="cannot be kept in the cache"):
        library()

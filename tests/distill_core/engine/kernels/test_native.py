"""Compiling, keeping and loading the C blocks."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distill_core.engine.kernels import library as module
from distill_core.engine.kernels import native
from distill_core.engine.kernels.library import put
from distill_core.engine.kernels.native import Unavailable, library, outcome


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and a loader that has loaded nothing.

    It compiles a source of one line by the same steps; all other tests compute with the library.
    """
    source = tmp_path / "one.c"
    source.write_text("int one(void) { return 1; }\n")
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "SOURCES", (str(source),))
    outcome.cache_clear()
    yield tmp_path / "cache" / "kernels"
    outcome.cache_clear()


def test_it_is_compiled_once_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library()
    (kept,) = cache.iterdir()
    assert kept.stat().st_mode & 0o022 == 0
    outcome.cache_clear()
    monkeypatch.setattr(native, "_compile", lambda *_: pytest.fail("compiled again"))
    library()


def test_what_a_killed_compilation_has_left_is_removed_when_nobody_can_use_it(cache: Path) -> None:
    library()
    old, used = (Path(tempfile.mkdtemp(dir=cache)) for _ in range(2))
    (old / "blocks.so").touch()
    os.utime(old, (0, 0))
    outcome.cache_clear()
    library()
    assert not old.exists()
    assert used.exists()  # somebody may compile there now


def rewritten(kept: Path, data: bytes) -> None:
    kept.unlink()  # writing into a loaded library would end this process
    kept.write_bytes(data)
    kept.chmod(0o700)


def cut(kept: Path) -> None:
    rewritten(kept, kept.read_bytes()[:-100])


def changed(kept: Path) -> None:
    data = kept.read_bytes()
    rewritten(kept, data[:-1] + bytes([data[-1] ^ 1]))


def of_another_source(kept: Path) -> None:
    """A sound library whose file was renamed to that of another source or compiler."""
    key, own = "0" * 32, kept.name.split("-")[1]
    other = kept.with_name("other")
    shutil.copyfile(kept, other)
    put(other, kept.parent, key)
    (moved,) = kept.parent.glob(f"blocks-{key}-*")
    kept.unlink()
    moved.rename(kept.with_name(moved.name.replace(key, own)))


def open_to_others(kept: Path) -> None:
    kept.chmod(0o770)


def of_another_user(kept: Path) -> None:
    os.chown(kept, 12345, -1)


def a_link(kept: Path) -> None:
    kept.rename(kept.parent.parent / "elsewhere.so")
    kept.symlink_to(kept.parent.parent / "elsewhere.so")


def a_pipe(kept: Path) -> None:
    kept.unlink()
    os.mkfifo(kept, 0o700)


def a_giant(kept: Path) -> None:
    """A file that claims far more than memory holds."""
    kept.unlink()
    with open(kept, "wb") as file:
        file.truncate(2**40)
    kept.chmod(0o700)


AS_ROOT = pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (cut, "does not have the digest"),
        (changed, "does not have the digest"),
        (of_another_source, "does not have the digest"),
        (open_to_others, "may have been written by another user"),
        pytest.param(of_another_user, "may have been written by another user", marks=AS_ROOT),
        (a_link, "cannot be loaded"),
        (a_pipe, "is not a library"),
        (a_giant, "is not a library"),
    ],
)
def test_a_library_that_is_not_sound_is_told_and_compiled_anew(
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    why: str,
) -> None:
    library()
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    damage(kept)
    outcome.cache_clear()
    library()
    (line,) = caplog.messages
    assert why in line
    assert line.endswith("it is made anew")
    (again,) = cache.iterdir()
    assert again.read_bytes() == whole
    assert stat.S_ISREG(again.lstat().st_mode)


@pytest.mark.parametrize(
    "lose",
    [
        lambda folder: folder.chmod(0o777),
        pytest.param(lambda folder: os.chown(folder, 12345, -1), marks=AS_ROOT),
    ],
    ids=["open to others", "of another user"],
)
def test_a_folder_of_others_is_left_alone(cache: Path, lose: Callable[[Path], None]) -> None:
    library()
    lose(cache)
    before = sorted(cache.iterdir())
    outcome.cache_clear()
    library()
    assert sorted(cache.iterdir()) == before
    own = cache.with_name(f"kernels-{os.getuid()}")
    (kept,) = own.iterdir()
    assert kept.stat().st_mode & 0o022 == 0
    assert own.stat().st_mode & 0o022 == 0


def test_where_no_folder_is_safe_the_library_is_for_this_process_alone(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in (cache, cache.with_name(f"kernels-{os.getuid()}")):
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    library()
    (line,) = caplog.messages
    assert "are compiled for this process alone" in line
    assert not [*cache.parent.rglob("*.so")]


def test_what_was_checked_is_loaded_even_if_its_name_goes_to_another_file(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library()
    (kept,) = cache.iterdir()
    outcome.cache_clear()
    load, loaded = ctypes.CDLL, []

    def swapped(path: str) -> ctypes.CDLL:
        rewritten(kept, b"planted")
        loaded.append(load(path))
        return loaded[0]

    monkeypatch.setattr(ctypes, "CDLL", swapped)
    assert library() is loaded[0]
    assert kept.read_bytes() == b"planted"


def test_without_names_of_open_files_a_private_copy_is_loaded(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library()
    outcome.cache_clear()
    monkeypatch.setattr(module, "OPEN_FILES", "/no/such/folder")
    assert library().one() == 1


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
    cache.parent.mkdir(mode=0o500)
    with pytest.raises(Unavailable, match="cannot be kept in the cache"):
        library()

from __future__ import annotations

from pathlib import Path

import pytest

from distill_core.system.cache import cache_dir
from registry import InputError


def test_the_environment_names_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.setenv("DISTILL_CACHE", "~/own")
    assert cache_dir() == Path.home() / "own"
    monkeypatch.setenv("DISTILL_CACHE", "")
    assert cache_dir() == tmp_path / "xdg" / "distill"


@pytest.mark.parametrize(
    ("platform", "place"),
    [("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "AppData/Local")],
)
def test_without_it_the_platform_does(
    monkeypatch: pytest.MonkeyPatch, platform: str, place: str
) -> None:
    for name in ("DISTILL_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", platform)
    assert cache_dir() == Path.home() / place / "distill"


@pytest.mark.parametrize("name", ["DISTILL_CACHE", "XDG_CACHE_HOME"])
def test_a_home_that_nobody_has(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("DISTILL_CACHE", raising=False)
    monkeypatch.setenv(name, "~no-such-user/x")
    with pytest.raises(InputError) as caught:
        cache_dir()
    assert caught.value.what == f"{name} is ~no-such-user/x, and there is no such home folder."


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a number for a user."""
    for name in ("DISTILL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(InputError, match="DISTILL_CACHE, which is not set, is ~"):
        cache_dir()

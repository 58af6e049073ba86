"""Decoded pictures are kept, found again by content, and made anew when they do not fit."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.builtin.datasets.pictures import read_pictures
from distill_core.builtin.datasets.tree import FileTree
from distill_core.config.sections import DataOptions
from distill_core.contracts.data import DataSpec, RawData, Room, Sources
from distill_core.data import half_made, kept_pictures, mapped_pixels, picture_set, prepare
from distill_core.data.identity import Identity
from distill_core.data.kept_pictures import Reader
from distill_core.data.mapped_pixels import NoRoom
from distill_core.data.picture_notes import PictureNotes
from distill_core.data.picture_space import clear_pictures, kept_sets, pictures_dir
from registry import ContractError, EnvironmentFault, InputError
from tests.distill_core.builtin.datasets.picture_files import png

SHAPE = (3, 4, 4)


@dataclass
class Made:
    """A dataset of one file, whose bytes seed its images."""

    file: Path
    how: str = "1"
    loads: int = 0
    meanwhile: Callable[[], None] = lambda: None

    def sources(self) -> Sources:
        return Sources({"file": self.file}, self.how)

    def load(self) -> RawData:
        return self.load_into(Room())

    def load_into(self, room: Room) -> RawData:
        self.loads += 1
        generator = torch.Generator().manual_seed(len(self.file.read_bytes()))
        parts = []
        for count in (20, 6):
            images = room.empty((count, *SHAPE))
            images.copy_(torch.randint(0, 256, images.shape, generator=generator))
            room.filled(count)
            parts += [images, torch.arange(count) % 2]
        self.meanwhile()
        return RawData(DataSpec("made", ("a", "b"), SHAPE, ("flip",)), *parts, notes=("noted",))


def _read(dataset: Any, **settings: Any) -> RawData:
    return Reader(dataset, lambda call, *given: call(*given), "made", **settings).read()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_pictures, "WORTH_BYTES", 0)
    return tmp_path / "cache"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    file = tmp_path / "data"
    file.write_bytes(b"pictures")
    os.utime(file, (1, 1))
    return Made(file)


def test_what_is_kept_is_what_was_loaded(made: Made) -> None:
    plain = made.load()
    first, second = _read(made), _read(made)
    assert made.loads == 2
    for found in (first, second):
        assert (found.spec, found.notes) == (plain.spec, plain.notes)
        for name in ("train_images", "train_labels", "test_images", "test_labels"):
            assert torch.equal(getattr(found, name), getattr(plain, name))
    options = DataOptions()
    prepared = [
        prepare.prepare(raw, options, seed=0, device=torch.device("cpu"))
        for raw in (plain, first, second)
    ]
    assert len({real.fingerprint for real in prepared}) == 1
    assert len({real.content for real in prepared}) == 1
    assert all(torch.equal(real.train.images, prepared[0].train.images) for real in prepared)


@pytest.mark.parametrize("change", ["move", "touch", "copy"])
def test_the_same_content_is_found_again(made: Made, change: str, tmp_path: Path) -> None:
    _read(made)
    if change == "touch":
        os.utime(made.file)
    else:
        other = tmp_path / "elsewhere"
        (shutil.move if change == "move" else shutil.copy)(made.file, other)
        made.file = other
    _read(made)
    assert made.loads == 1


def test_other_content_with_the_old_size_and_time_is_read(made: Made) -> None:
    _read(made)
    made.file.write_bytes(b"PICTURES")
    os.utime(made.file, (1, 1))
    _read(made)
    made.how = "2"
    _read(made)
    assert made.loads == 3


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "version", "record"])
def test_what_does_not_fit_is_made_anew(
    made: Made, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = _read(made).train_images.clone()
    (folder,) = kept_sets()
    file, record = folder / "train_images.bin", folder / "record.json"
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[:-1])
    elif damage == "changed":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "gone":
        file.unlink()
    else:
        said = record.read_text()
        new = "{" if damage == "record" else said.replace('"format": 1', '"format": 0')
        record.write_text(new)
    assert torch.equal(_read(made).train_images, plain)
    assert made.loads == 2
    assert caplog.text.count("it is made anew") == 1
    _read(made)
    assert made.loads == 2


def test_a_digest_is_compared_only_when_the_stamp_has_changed(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    _read(made)
    with monkeypatch.context() as patch:
        patch.setattr("distill_core.data.picture_set.file_digest", lambda path: pytest.fail("read"))
        _read(made)
    (folder,) = kept_sets()
    os.utime(folder / "test_images.bin")
    _read(made)
    assert made.loads == 1


def test_what_was_found_out_is_not_found_out_again(made: Made, monkeypatch: Any) -> None:
    raw = _read(made)
    of = Identity.of_raw(raw, DataOptions(), 0)
    monkeypatch.setattr("distill_core.data.identity._found_digest", lambda *_: pytest.fail("again"))
    assert Identity.of_raw(_read(made), DataOptions(), 0) == of


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"{}"])
def test_a_damaged_note_of_the_content_is_not_believed(
    made: Made, damage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill_core.system.stamps.UNSETTLED", -(10**18))
    _read(made)
    (note,) = (pictures_dir() / "sources").iterdir()
    note.write_bytes(damage)
    _read(made)
    assert made.loads == 1


def test_damaged_facts_are_found_anew(made: Made) -> None:
    assert _read(made).known("question", lambda: 1) == 1
    (folder,) = kept_sets()
    facts = folder / "facts.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "facts": None}))
    assert _read(made).known("question", lambda: 2) == 2


def test_a_full_disk_is_said_and_the_run_goes_on(
    made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, size: int) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mapped_pixels, "reserved", full)
    assert len(_read(made).train_images) == 20
    assert "decoded at each start" in caplog.text
    assert "No space left" in caplog.text
    assert [path.suffix for path in pictures_dir().glob(".*")] == [".lock"]
    with pytest.raises(NoRoom, match="No space left"):
        _read(made, most=0)


def test_a_set_larger_than_the_limit_is_not_kept(
    made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DISTILL_PICTURES", "0.1KB")
    _read(made)
    assert "more than decoded pictures may" in caplog.text
    assert kept_sets() == {}
    monkeypatch.setenv("DISTILL_PICTURES", "much")
    with pytest.raises(InputError, match="DISTILL_PICTURES is 'much'"):
        _read(made)


def test_those_used_longest_ago_go_first(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = []
    for number in range(3):
        made.how = str(number)
        _read(made)
        (new,) = set(kept_sets()) - set(sets)
        sets.append(new)
        os.utime(new / "record.json", (number, number))
    monkeypatch.setenv("DISTILL_PICTURES", f"{3 * sum(kept_sets().values()) // 3000}KB")
    made.how = "0"
    _read(made)  # used again
    made.how = "new"
    _read(made)
    assert sets[0] in kept_sets()
    assert sets[1] not in kept_sets()
    assert clear_pictures() > 0
    assert kept_sets() == {}


def test_two_at_once_decode_once(made: Made) -> None:
    begun, lines = threading.Event(), list[str]()
    other = Made(made.file)
    waiting = threading.Thread(target=lambda: _read(other, tell=lines.append))

    def meanwhile() -> None:
        waiting.start()
        while not lines:
            begun.wait(0.01)

    made.meanwhile = meanwhile
    _read(made)
    waiting.join()
    assert (made.loads, other.loads) == (1, 0)
    assert "another run prepares these pictures" in lines[0]


def test_a_file_that_changes_meanwhile_is_refused(made: Made) -> None:
    made.meanwhile = lambda: made.file.write_bytes(b"others")  # type: ignore[assignment]
    with pytest.raises(InputError, match="have changed while they were read"):
        _read(made)
    assert kept_sets() == {}


def test_few_small_files_are_not_kept(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_pictures, "WORTH_BYTES", 100)
    _read(made)
    assert kept_sets() == {}


def test_a_missing_file_is_told_by_the_dataset(made: Made) -> None:
    made.file.unlink()
    with pytest.raises(FileNotFoundError):
        _read(made)


@dataclass
class Long:
    """A folder of pictures, whose reading can be ended at any of them."""

    folder: Path
    ends_at: int = -1
    decoded: int = 0
    end: type[BaseException] = KeyboardInterrupt

    def sources(self) -> Sources:
        return Sources({path.name: path for path in self.folder.iterdir()}, "1")

    def load(self) -> RawData:
        return self.load_into(Room())

    def load_into(self, room: Room) -> RawData:
        files = sorted(path.name for path in self.folder.iterdir())
        notes = PictureNotes()

        def read(name: str) -> bytes:
            if self.decoded == self.ends_at:
                raise self.end
            self.decoded += 1
            return (self.folder / name).read_bytes()

        tree = FileTree(self.folder, tuple(files), (), read)
        parts = [files[:8], files[8:]]
        images = read_pictures(tree, parts, size=4, colour="auto", notes=notes, room=room)
        labels = [torch.arange(len(part)) % 2 for part in parts]
        spec = DataSpec("long", ("a", "b"), tuple(images[0].shape[1:]), ("flip",))
        return RawData(spec, images[0], labels[0], images[1], labels[1], notes=notes.lines())


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Long:
    monkeypatch.setattr(half_made, "EVERY", 0.0)
    pictures = tmp_path / "long"
    pictures.mkdir()
    for k in range(12):  # long ones, of which more than half is cut away; the sixth is in colour
        colour = (9, 99, k) if k == 5 else k
        (pictures / f"{k:02}.png").write_bytes(png(colour, width=20, height=4))
        os.utime(pictures / f"{k:02}.png", (1, 1))
    return Long(pictures)


@pytest.mark.parametrize("ends_at", [1, 5, 6, 9, 11])
def test_what_was_ended_is_gone_on_with(long: Long, ends_at: int) -> None:
    plain, lines = long.load(), list[str]()
    with pytest.raises(KeyboardInterrupt):
        _read(Long(long.folder, ends_at))
    (half,) = half_made.halves(pictures_dir())
    assert kept_sets() == {}
    again = Long(long.folder)
    found = _read(again, tell=lines.append)
    assert again.decoded == 12 - ends_at
    assert f"goes on after {ends_at} pictures" in lines[0]
    assert found.notes == plain.notes
    assert "12 pictures of which more than half is cut away" in found.notes[0]
    assert torch.equal(found.train_images, plain.train_images)
    assert torch.equal(found.test_images, plain.test_images)
    (folder,) = kept_sets()
    assert not half.exists()
    assert sorted(path.suffix for path in folder.iterdir()) == [".bin"] * 4 + [".json"] * 2


@pytest.mark.parametrize("change", ["source", "record", "cut", "gone"])
def test_a_half_that_does_not_fit_counts_for_nothing(long: Long, change: str) -> None:
    plain = long.load()
    with pytest.raises(KeyboardInterrupt):
        _read(Long(long.folder, 7))
    (half,) = half_made.halves(pictures_dir())
    if change == "source":
        os.utime(long.folder / "00.png")  # the same content, so the same place in the cache
    elif change == "record":
        (half / "begun.json").write_text('{"count": 7}')
    else:
        image = next(half.glob("*.u8"))
        os.truncate(image, 3) if change == "cut" else image.unlink()
    again = Long(long.folder)
    assert torch.equal(_read(again).train_images, plain.train_images)
    assert again.decoded == 12


def test_a_killed_process_is_gone_on_with(long: Long, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:  # who removes nothing
        killed.setattr("distill_core.system.folders.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(SystemError):
            _read(Long(long.folder, 7, end=SystemError))
    again = Long(long.folder)
    assert torch.equal(_read(again).train_images, long.load().train_images)
    assert again.decoded == 5


def test_what_cannot_be_gone_on_with_leaves_nothing(made: Made) -> None:
    def end() -> None:
        raise KeyboardInterrupt

    made.meanwhile = end
    with pytest.raises(KeyboardInterrupt):
        _read(made)
    assert half_made.halves(pictures_dir()) == {}


@pytest.mark.parametrize("fails", ["write_bytes", "write_atomically"])
def test_a_disk_that_is_full_at_the_end_loses_no_pictures(
    long: Long, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Labels and the record are written when all pictures are in their place."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        place = Path if fails == "write_bytes" else picture_set
        patch.setattr(place, fails, full)
        with pytest.raises(EnvironmentFault, match="No space left"):
            _read(long, most=0)
    again = Long(long.folder)
    assert torch.equal(_read(again).train_images, long.load().train_images)
    assert again.decoded == 0


def test_damaged_pictures_leave_no_half(long: Long) -> None:
    (long.folder / "07.png").write_bytes(b"text")
    with pytest.raises(InputError, match=r"07\.png cannot be read"):
        _read(long)
    assert half_made.halves(pictures_dir()) == {}


def test_without_locks_nobody_goes_on(long: Long, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(kept_pictures, "flock", none)
    with pytest.raises(KeyboardInterrupt):
        _read(Long(long.folder, 7))
    assert half_made.halves(pictures_dir()) == {}
    assert len(_read(long).train_images) == 8


def test_halves_go_after_a_week_and_at_the_users_word(long: Long, made: Made) -> None:
    with pytest.raises(KeyboardInterrupt):
        _read(Long(long.folder, 7))
    _read(made)
    (half,) = half_made.halves(pictures_dir())
    for path in (*half.iterdir(), half):
        os.utime(path, (1, 1))
    made.how = "2"
    _read(made)
    assert half_made.halves(pictures_dir()) == {}
    with pytest.raises(KeyboardInterrupt):
        _read(Long(long.folder, 7))
    assert clear_pictures() > 0
    assert half_made.halves(pictures_dir()) == {}


def test_a_source_that_vanishes_meanwhile_is_said(made: Made) -> None:
    made.meanwhile = made.file.unlink
    with pytest.raises(InputError, match="have changed while they were read"):
        _read(made)
    assert kept_sets() == {}


@pytest.mark.parametrize("loaded", [None, (1, 2)])
def test_what_is_no_data_is_refused_by_name(loaded: Any) -> None:
    class Odd:
        def load(self) -> Any:
            return loaded

    with pytest.raises(ContractError, match=f"^made loads a {type(loaded).__name__}"):
        _read(Odd())

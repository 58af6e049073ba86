"""Memory and work of decoding: what is alive at once, and what is made one after another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill_core.artefact import decoding_memory
from distill_core.artefact.artefact import load
from distill_core.artefact.decoding_memory import WithinMemory
from distill_core.system.files import read_tensors, write_tensors
from registry import InputError
from tests.distill_core.artefact.stored_results import DECODERS, assembled, save

MB = 2**20


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of four bytes, on a machine that has room for 40 MB."""
    monkeypatch.setattr(decoding_memory, "LEAST_GATHERED", 0)
    monkeypatch.setattr(decoding_memory, "free_memory", lambda device: 80 * MB)
    (tmp_path / "file").write_bytes(b"1234")
    return tmp_path / "file"


def megabytes(count: int) -> torch.Tensor:
    return torch.empty(count * MB // 4)


def test_tensors_that_are_small_alone_are_refused_together(file: Path) -> None:
    kept: list[torch.Tensor] = []

    def keep() -> None:
        for _ in range(5):
            kept.append(megabytes(8).add(1))  # 8 MB stay, and 8 more are there for a moment
            kept.append(kept[-1][:1].view(1))

    with WithinMemory(file), pytest.raises(InputError, match="takes 50 MB at once") as refused:
        keep()
    assert len(kept) == 2 * 4
    assert "half of the free memory" in refused.value.expected


def test_what_is_gone_and_what_is_looked_at_again_is_not_counted(file: Path) -> None:
    with WithinMemory(file):
        for _ in range(20):
            megabytes(30)
        whole = megabytes(30)
        for _ in range(20):
            assert whole.view(-1, 2)[1:].numel()
            whole.fill_(1)


def test_work_is_bounded_by_the_size_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding_memory, "LEAST_MADE", 100 * MB)
    monkeypatch.setattr(decoding_memory, "MADE", 25 * MB)
    monkeypatch.setattr(decoding_memory, "EACH", MB)
    with WithinMemory(file):  # 200 MB
        for _ in range(20):
            megabytes(9)
    done = []

    def work() -> None:
        for step in range(1000):
            torch.zeros(1)
            done.append(step)

    with WithinMemory(file), pytest.raises(InputError, match="its results are more than 0 GB"):
        work()
    assert 190 <= len(done) <= 200


def test_a_file_of_a_million_parts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings ask for a decoder of so many blocks, of a few numbers each."""
    file = save(assembled("speed", images=DECODERS["speed"]), tmp_path)
    used = read_work(file, monkeypatch)
    monkeypatch.setattr(decoding_memory, "LEAST_MADE", 4 * used)
    monkeypatch.setattr(decoding_memory, "MADE", 0)
    assert torch.equal(load(file).images, load(tmp_path).images)
    tensors, metadata = read_tensors(file)
    options = metadata["components"]["repr"]["options"]
    metadata["made_with"]["ipc"] = 50_000
    options |= {"blocks": 10**6, "dim": 1, "heads": 1, "tokens": 1, "kept": 1}
    write_tensors(tmp_path / "changed.safetensors", tensors, metadata)
    with pytest.raises(InputError, match="cannot be used: decoding it takes"):
        load(tmp_path / "changed.safetensors")


def read_work(file: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the bytes for which the decoding of a file counts."""
    made: list[WithinMemory] = []

    class Kept(WithinMemory):
        def __init__(self, file: Path) -> None:
            super().__init__(file)
            made.append(self)

    with monkeypatch.context() as patch:
        patch.setattr("distill_core.artefact.decoding.WithinMemory", Kept)
        load(file)
    return made[0].most - made[0].left

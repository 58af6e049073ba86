"""Which file a result is in, as runs of this and of earlier versions leave it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.artefact import saving
from distill_core.artefact.artefact import load
from distill_core.artefact.contents import DISTILLED, MANIFEST, STORED
from distill_core.artefact.result_file import has_result, result_file
from distill_core.commands.verify import verify
from distill_core.system.files import read_tensors, write_tensors
from registry import InputError
from tests.distill_core.artefact.stored_results import DECODERS, assembled, save

FIXTURE = Path(__file__).parents[2] / "fixtures" / "run-decoded"


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A run of an earlier version, with both files."""
    return shutil.copytree(FIXTURE, tmp_path / "run")


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A result of a decoder."""
    return save(assembled("gsdd", images=DECODERS["gsdd"]), tmp_path / "run").parent


def listing(folder: Path, *names: str) -> None:
    """Let the manifest list these files of a result alone."""
    record = json.loads((folder / MANIFEST).read_text())
    for name in {DISTILLED, STORED} - {*names}:
        del record["files"][name]
    (folder / MANIFEST).write_text(json.dumps(record))


def test_of_both_the_images_are_read(both: Path) -> None:
    assert load(both).path == both / DISTILLED
    assert torch.allclose(load(both / STORED).images, load(both).images, atol=1e-5)
    (both / DISTILLED).unlink()  # to save its room
    assert load(both).path == both / STORED
    (both / STORED).unlink()
    assert not has_result(both)


def test_the_manifest_says_which_it_is(both: Path) -> None:
    """The other one may be left of an earlier result, as in a download that was renewed."""
    listing(both, STORED)
    assert result_file(both) == both / STORED
    (both / STORED).unlink()
    with pytest.raises(InputError, match=r"stored\.safetensors does not exist"):
        load(both)
    (both / MANIFEST).unlink()
    assert result_file(both) == both / DISTILLED


def test_numbers_take_the_place_of_images_as_one_set(
    both: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of an earlier version goes on, and is killed before its new manifest is written."""
    before, write = load(both).images, saving.write_atomically
    assembly = assembled("gsdd", images=DECODERS["gsdd"])

    def killed(path: Path, data: bytes) -> None:
        if path.name == MANIFEST:
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            save(assembly, both)
    assert not (both / DISTILLED).exists()
    assert torch.equal(load(both).images, before)
    assert torch.equal(load(both / DISTILLED).images, before)
    assert [check for check in verify(both) if not check.passed and check.name != "run.toml"] == []
    save(assembly, both)
    assert load(both).path == both / STORED
    assert torch.equal(load(both).images, assembly.synthetic.all().images.detach())
    assert not (both / ".previous").exists()


def test_who_names_the_other_file_is_told(numbers: Path) -> None:
    with pytest.raises(InputError, match=r"distilled\.safetensors does not exist") as refused:
        load(numbers / DISTILLED)
    assert refused.value.next == f"load the directory, or {STORED} in it, which has the result."


def test_who_loads_another_export_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        load(tmp_path)
    assert "check the path" in refused.value.next
    (tmp_path / "info.json").write_text("{}")
    with pytest.raises(InputError) as refused:
        load(tmp_path)
    assert "this is an export" in refused.value.next
    assert "huggingface" in refused.value.next


def _flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("break_it", "sentence", "found"),
    [
        (_flipped, "was changed or cut short", "SHA-256 .*, not "),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "was changed or cut", "SHA-256 "),
        (Path.unlink, "does not exist", "is missing"),
    ],
    ids=["changed", "cut", "missing"],
)
def test_a_file_that_is_not_as_it_was_is_found(
    break_it: Callable[[Path], Any], sentence: str, found: str, numbers: Path
) -> None:
    assert [check for check in verify(numbers) if not check.passed] == []
    break_it(numbers / STORED)
    with pytest.raises(InputError, match=sentence):
        load(numbers)
    (check,) = (check for check in verify(numbers) if check.name == STORED)
    assert not check.passed
    assert re.match(found, check.found)


def _infinite(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    tensors["data.colours"][0] = torch.inf


def _elsewhere(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    metadata["whitening"]["sha256"] = 64 * "0"


def _smaller(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    tensors["data.opacities"] = tensors["data.opacities"][:, 1:]


def _turned(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    metadata["class_grid"] = metadata["class_grid"][::-1]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_infinite, {"artefact": "are not all finite"}),
        (_elsewhere, {"artefact": "belong to another whitening.safetensors"}),
        (_smaller, {"budget": "are stored; claimed", "storage": "are stored; claimed"}),
        (_turned, {"class order": "not as the manifest says"}),
    ],
)
def test_numbers_that_lie_are_found_without_decoding(
    change: Callable[[dict[str, Tensor], dict[str, Any]], None],
    found: dict[str, str],
    numbers: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("distill_core.artefact.artefact.decoded", pytest.fail)
    tensors, metadata = read_tensors(numbers / STORED)
    change(tensors, metadata)
    record = json.loads((numbers / MANIFEST).read_text())
    record["files"][STORED] = write_tensors(numbers / STORED, tensors, metadata)
    (numbers / MANIFEST).write_text(json.dumps(record))
    failed = {check.name: check.found for check in verify(numbers) if not check.passed}
    assert failed.keys() == found.keys()
    assert all(found[name] in said for name, said in failed.items())

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from distill_core.artefact.artefact import load
from distill_core.cli.export import FORMATS
from distill_core.contracts.data import RealData
from distill_core.contracts.recipes import Recipe
from distill_core.export import export, shared_whitening
from distill_core.export.images import class_folders
from distill_core.system.files import read_tensors, write_tensors
from distill_core.testing.small import image_layout, poster_layout, small_data
from registry import EnvironmentFault, InputError, UnknownNameError
from tests.distill_core.cli.fakes import distill
from tests.distill_core.conftest import MakeSynthetic
from tests.distill_core.small_run import save_artefact


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def real(request: pytest.FixtureRequest) -> RealData:
    return small_data(6, channels=request.param)


@pytest.fixture
def run_dir(real: RealData, make_synthetic: MakeSynthetic, tmp_path: Path) -> Path:
    synthetic = make_synthetic(real, poster_layout())
    with torch.no_grad():
        synthetic.labeler.rows[:, 2] = 1e-3  # no picture of class 2
    save_artefact(tmp_path / "run", synthetic, real=real, recipe=Recipe(), manifest={})
    return tmp_path / "run"


def test_image_folder_reads_the_pictures(run_dir: Path, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    lines = export(run_dir, tmp_path / "out", "images")
    distilled = load(run_dir)
    folder = ImageFolder(str(tmp_path / "out"), allow_empty=True)
    assert folder.classes == class_folders(distilled.class_names)
    assert len(folder) == len(distilled.dataset)
    assert any("allow_empty" in line for line in lines)
    main = distilled.labels.argmax(1)
    for path, label in folder.samples:
        assert label == int(main[int(Path(path).stem)])


def test_the_command_says_what_it_wrote(run_dir: Path) -> None:
    result = distill("export", str(run_dir), "--format", "tensors", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["folder"] == str(run_dir / "export" / "tensors")
    assert found["files"] == sorted(path.name for path in Path(found["folder"]).iterdir())
    assert "tensors.safetensors" in found["files"]


def test_pictures_are_the_images_in_bytes(run_dir: Path, tmp_path: Path, real: RealData) -> None:
    export(run_dir, tmp_path / "out", "images")
    distilled = load(run_dir)
    expected = real.whitening.invert(distilled.images)
    listed = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert listed["class_names"] == list(real.spec.class_names)
    assert len(listed["labels"]) == len(distilled.dataset)
    for name, labels in listed["labels"].items():
        k = int(Path(name).stem)
        assert labels == pytest.approx(distilled.labels[k].tolist())
        with Image.open(tmp_path / "out" / name) as picture:
            pixels = np.asarray(picture).reshape(8, 8, -1).transpose(2, 0, 1)
        assert np.abs(pixels / 255 - expected[k].numpy()).max() <= 0.5 / 255 + 1e-6


def test_tensors_are_plain_safetensors(run_dir: Path, tmp_path: Path, real: RealData) -> None:
    lines = export(run_dir, tmp_path / "out", "tensors")
    distilled = load(run_dir)
    tensors = load_file(tmp_path / "out" / "tensors.safetensors")
    assert torch.equal(tensors["images"], distilled.images)
    assert torch.equal(tensors["labels"], distilled.labels)
    whitening = load_file(tmp_path / "out" / "whitening.safetensors")
    assert torch.equal(whitening["mean"], real.whitening.values["mean"])
    info = json.loads((tmp_path / "out" / "info.json").read_text())
    assert info["class_names"] == list(real.spec.class_names)
    assert info["whitening"] == "standardise"
    assert any("pickle" in line for line in lines)


def test_no_file_is_a_pickle(run_dir: Path, tmp_path: Path) -> None:
    export(run_dir, tmp_path / "images", "images")
    export(run_dir, tmp_path / "tensors", "tensors")
    export(run_dir, tmp_path / "huggingface", "huggingface")
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in paths} == {".json", ".jsonl", ".md", ".png", ".safetensors"}
    # torch.save writes a zip file, pickle begins with the byte 0x80.
    assert not any(path.read_bytes().startswith((b"PK", b"\x80")) for path in paths)


@pytest.mark.parametrize("form", FORMATS)
def test_a_folder_in_use_is_refused_and_kept(run_dir: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="exists already"):
        export(run_dir, out, form)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="exists already"):
        export(run_dir, out / "mine.txt", form)


def test_an_empty_folder_is_used(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert export(run_dir, tmp_path / "out", "tensors")


@pytest.mark.parametrize("form", FORMATS)
def test_force_replaces_an_earlier_export_and_nothing_else(
    run_dir: Path, tmp_path: Path, form: str
) -> None:
    out = tmp_path / "exports" / "out"
    export(run_dir, out, "images")
    export(run_dir, out, form, force=True)
    assert json.loads((out / "info.json").read_text())["distill_export"] == form
    assert (out / "labels.json").exists() == (form == "images")
    mine = tmp_path / "exports" / "mine"
    mine.mkdir()
    (mine / "info.json").write_text("[]")
    with pytest.raises(InputError, match="will not be deleted"):
        export(run_dir, mine, form, force=True)
    assert sorted(path.name for path in out.parent.iterdir()) == ["mine", "out"]


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "earlier version"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_file_of_the_user_that_looks_like_ours_is_not_deleted(
    run_dir: Path, tmp_path: Path, form: str, listed: bool
) -> None:
    out = tmp_path / "out"
    export(run_dir, out, form)
    if not listed:
        info = json.loads((out / "info.json").read_text())
        del info["files"]
        (out / "info.json").write_text(json.dumps(info))
        for name in ("distilled.safetensors", "manifest.json"):  # it did not write these
            (out / name).unlink(missing_ok=True)
    for name in ("net.pt", "mine.safetensors", "2024_photos/1.png", "train/77.png", "0_0/77.png"):
        made = not (out / name).parent.exists()
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("precious")
        with pytest.raises(InputError, match="holds what no export wrote"):
            export(run_dir, out, form, force=True)
        assert (out / name).read_text() == "precious"
        (out / name).unlink()
        if made:
            (out / name).parent.rmdir()
    export(run_dir, out, form, force=True)


@pytest.mark.parametrize("form", FORMATS)
def test_a_failure_leaves_what_was_there(
    run_dir: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "exports" / "out"
    export(run_dir, out, "tensors")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distill_core.system.files.os.fsync", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        export(run_dir, out, form, force=True)
    with pytest.raises(EnvironmentFault, match="No space left"):
        export(run_dir, tmp_path / "exports" / "new", form)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("form", ["tensors", "dd-ranking"])
def test_an_export_of_a_live_run_is_of_one_set(
    run_dir: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, new = tmp_path / "out", [tmp_path / "new"]
    shutil.copytree(run_dir, new[0])
    path = new[0] / "distilled.safetensors"
    tensors, metadata = read_tensors(path)
    with torch.no_grad():
        tensors["labels"] = tensors["labels"].flip(0)
    manifest = json.loads((new[0] / "manifest.json").read_text())
    manifest["files"][path.name] = write_tensors(path, tensors, metadata)
    (new[0] / "manifest.json").write_text(json.dumps(manifest))

    def slow(path: Path, *names: object) -> object:
        if new:
            folder = new.pop()
            for each in sorted(folder.iterdir()):
                each.replace(run_dir / each.name)
        return read_tensors(path, *names)

    monkeypatch.setattr(shared_whitening, "read_tensors", slow)
    export(run_dir, out, form)
    file = "tensors.safetensors" if form == "tensors" else "poster.safetensors"
    labels = load_file(out / file)["labels"]
    assert torch.equal(labels, tensors["labels"])
    if form == "dd-ranking":
        chosen = json.loads((out / "geometry.json").read_text())["chosen"]
        logits = torch.load(out / "labels.pt", weights_only=True)
        assert torch.allclose(logits.exp(), labels[chosen], atol=1e-6)


def test_an_unknown_format_is_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no format named 'image'") as caught:
        export(run_dir, tmp_path / "out", "image")
    assert caught.value.nearest == "images"
    assert not (tmp_path / "out").exists()


def test_folders_sort_in_label_order_and_are_valid_names() -> None:
    names = tuple(f"class {k}/..\\:*" for k in range(12))
    folders = class_folders(names)
    assert sorted(folders) == folders
    assert folders[3] == "03_class_3"
    assert len(set(class_folders(("a b", "a/b", "")))) == 3


def test_folders_keep_the_letters_of_every_script() -> None:
    names = ("дуб", "猫", "cafe\u0301", "हिन्दी", "a__b / c")
    assert class_folders(names) == ["0_дуб", "1_猫", "2_caf\xe9", "3_हिन्दी", "4_a__b_c"]
    longest = class_folders(("猫" * 300,))[0]
    assert len(longest.encode()) < 256


def test_a_complete_set_needs_no_empty_folders(
    make_synthetic: MakeSynthetic, tmp_path: Path
) -> None:
    from torchvision.datasets import ImageFolder

    real = small_data(6)
    synthetic = make_synthetic(real, image_layout(6))
    with torch.no_grad():
        synthetic.labeler.rows.copy_(torch.eye(6) + 0.01)
    save_artefact(tmp_path / "run", synthetic, real=real, recipe=Recipe(), manifest={})
    export(tmp_path / "run", tmp_path / "out", "images")
    assert len(ImageFolder(str(tmp_path / "out"))) == 6

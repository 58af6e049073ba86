from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

import distill_core
from distill_core.artefact.artefact import load
from distill_core.artefact.packing import state_of
from distill_core.contracts.data import RealData
from distill_core.contracts.geometry import Layout
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.system.files import read_tensors, write_tensors
from distill_core.testing.small import image_layout, poster_layout, small_data
from registry import InputError
from tests.distill_core.conftest import MakeSynthetic
from tests.distill_core.small_run import save_artefact

RECIPE = Recipe(lr=0.01, steps=30, batch_size=8)
LAYOUTS = {
    "images": image_layout(6),
    "more images": image_layout(6, ipc=2),
    "a poster": poster_layout(),
    "a poster that wraps": poster_layout(wraps=True),
    "boxes of half the size": image_layout(6, size=4),
}


@pytest.fixture(scope="module")
def real() -> RealData:
    return small_data(6)


def save(run_dir: Path, synthetic: SyntheticDataset, real: RealData) -> Path:
    manifest = {"components": {"repr": {"name": "pixels"}}, "seed": 0}
    save_artefact(run_dir, synthetic, real=real, recipe=RECIPE, manifest=manifest)
    return run_dir


@pytest.fixture
def run_dir(real: RealData, make_synthetic: MakeSynthetic, tmp_path: Path) -> Path:
    return save(tmp_path / "run", make_synthetic(real, poster_layout()), real)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_plain_code_reads_exactly_what_was_distilled(
    real: RealData, make_synthetic: MakeSynthetic, tmp_path: Path, layout: Layout
) -> None:
    """The lines that the metadata and the guide show; nothing of distill."""
    synthetic = make_synthetic(real, layout)
    save(tmp_path, synthetic, real)
    d = load_file(tmp_path / "distilled.safetensors")
    if "images" in d:
        images = d["images"]
    else:
        c, y, x = (d[name].long() for name in ("canvas", "rows", "cols"))
        images = d["pixels"][c[:, None, None], :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
    expected = synthetic.all()
    assert torch.equal(images, expected.images.detach())
    assert torch.equal(d["labels"], expected.labels.detach())
    assert ("images" in d) == (layout.items.hw != (8, 8))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_metadata_say_how_to_load(
    real: RealData, make_synthetic: MakeSynthetic, tmp_path: Path, layout: Layout
) -> None:
    synthetic = make_synthetic(real, layout)
    save(tmp_path, synthetic, real)
    text = load(tmp_path).metadata["how_to_load"]
    code = text.partition(". Images are whitened")[0]
    assert "Test images need the same whitening" in text
    names: dict[str, torch.Tensor] = {}
    path = str(tmp_path / "distilled.safetensors")
    exec(code.replace("'distilled.safetensors'", repr(path)), names)
    expected = synthetic.all()
    assert torch.equal(names["images"], expected.images.detach())
    assert torch.equal(names["labels"], expected.labels.detach())


def test_load_gives_everything(run_dir: Path, real: RealData) -> None:
    distilled = distill_core.load(run_dir)
    assert distilled.class_names == real.spec.class_names
    assert distilled.recipe == RECIPE
    assert distilled.budget.pixels == 20 * 23
    assert distilled.verified
    assert distilled.metadata["dataset_fingerprint"] == real.fingerprint
    assert distilled.metadata["components"] == {"repr": {"name": "pixels"}}
    images, labels = distilled.dataset[:]
    assert images.shape[1:] == (3, 8, 8)
    assert torch.allclose(labels.sum(1), torch.ones(len(labels)))
    text = repr(distilled)
    for part in (
        "3x8x8",
        "standardise",
        "6 classes",
        RECIPE.described(len(images)),
        "verified",
        "IPC",
    ):
        assert part in text


def test_load_takes_the_file_as_well_and_can_do_without_a_manifest(
    run_dir: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("distilled.safetensors", "whitening.safetensors"):
        shutil.copy(run_dir / name, alone / name)
    distilled = load(str(alone / "distilled.safetensors"))
    assert not distilled.verified
    assert "no manifest.json" in repr(distilled)
    assert torch.equal(distilled.images, load(run_dir).images)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_parameters_can_be_restored(
    real: RealData, make_synthetic: MakeSynthetic, tmp_path: Path, layout: Layout
) -> None:
    synthetic = make_synthetic(real, layout)
    save(tmp_path, synthetic, real)
    other = make_synthetic(real, layout)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    tensors, metadata = read_tensors(tmp_path / "distilled.safetensors")
    other.load_state_dict(state_of(tensors, metadata["same"]))
    for name, tensor in synthetic.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_tables_that_would_fill_the_memory_are_refused(run_dir: Path) -> None:
    """A file of 68 kB, of which 816 MB of images would be made."""
    path = run_dir / "distilled.safetensors"
    tensors, metadata = read_tensors(path)
    table = torch.zeros(17, 2000, dtype=torch.uint8)
    tensors |= {"canvas": table[:, 0].clone(), "rows": table, "cols": table.clone()}
    write_tensors(path, tensors, {**metadata, "image_shape": [3, 2000, 2000]})
    (run_dir / "manifest.json").unlink()
    with pytest.raises(InputError, match="816 MB of images would be made"):
        load(run_dir)


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        (
            "budget",
            {"ipc": [1], "pixels": 1, "label_numbers": 1, "label_rows": 1},
            "budget has ipc",
        ),
        ("class_names", ["\x1b[2J", "b", "c", "d", "e", "f"], "that cannot be shown"),
        ("components", [], "its components have no names"),
        ("components", {"algo": {}}, "its components have no names"),
        ("components", {"algo": {"name": "x\n\x1b[2J"}}, "its components have no names"),
    ],
)
def test_what_is_shown_of_an_artefact_can_be_shown(
    field: str, value: object, what: str, run_dir: Path
) -> None:
    tensors, metadata = read_tensors(run_dir / "distilled.safetensors")
    write_tensors(run_dir / "distilled.safetensors", tensors, {**metadata, field: value})
    (run_dir / "manifest.json").unlink()
    with pytest.raises(InputError, match=what):
        load(run_dir)


NAN = float("nan")


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"mean": torch.tensor([0.1, NAN, 0.2])}, "the mean of its whitening is not finite"),
        ({"std": torch.tensor([1.0, 0.0, 1.0])}, "is not above zero"),
        ({"std": torch.ones(4)}, r"the std of its whitening 'standardise' has shape \(4,\)"),
        ({"mean": torch.zeros(3, 8, 8)}, r"has shape \(3, 8, 8\)"),
        ({"matrix": torch.eye(3)}, "no whitening 'standardise' has the tensors"),
    ],
)
def test_a_whitening_that_cannot_be_applied_is_refused(
    changed: dict[str, torch.Tensor], what: str, run_dir: Path
) -> None:
    tensors, metadata = read_tensors(run_dir / "whitening.safetensors")
    digest = write_tensors(run_dir / "whitening.safetensors", tensors | changed, metadata)
    tensors, metadata = read_tensors(run_dir / "distilled.safetensors")
    metadata["whitening"]["sha256"] = digest
    write_tensors(run_dir / "distilled.safetensors", tensors, metadata)
    (run_dir / "manifest.json").unlink()
    with pytest.raises(InputError, match=what):
        load(run_dir)


@pytest.mark.parametrize("name", ["distilled.safetensors", "whitening.safetensors"])
def test_what_lies_in_the_directory_is_no_link(name: str, run_dir: Path, tmp_path: Path) -> None:
    (run_dir / name).rename(tmp_path / name)
    (run_dir / name).symlink_to(tmp_path / name)
    with pytest.raises(InputError, match="is a link to"):
        load(run_dir)


def test_what_the_user_names_may_be_a_link(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run_dir)
    (tmp_path / "mine").symlink_to(run_dir / "distilled.safetensors")
    for name in ("link", "mine"):
        assert load(tmp_path / name).verified


def test_pixels_are_stored_once(run_dir: Path) -> None:
    tensors, metadata = read_tensors(run_dir / "distilled.safetensors")
    assert metadata["same"] == {"data.stored": "pixels"}
    assert "data.stored" not in tensors
    assert tensors["rows"].dtype == torch.uint8


def test_the_manifest_has_the_checksum_of_every_file(run_dir: Path) -> None:
    import hashlib

    manifest = json.loads((run_dir / "manifest.json").read_text())
    names = {path.name for path in run_dir.iterdir()} - {"manifest.json"}
    assert set(manifest["files"]) == names
    assert manifest["seed"] == 0
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((run_dir / name).read_bytes()).hexdigest() == digest


def test_equal_states_give_equal_files(
    run_dir: Path, real: RealData, make_synthetic: MakeSynthetic, tmp_path: Path
) -> None:
    again = save(tmp_path / "again", make_synthetic(real, poster_layout()), real)
    for path in run_dir.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_a_newer_state_replaces_an_older_one(
    run_dir: Path, real: RealData, make_synthetic: MakeSynthetic
) -> None:
    synthetic = make_synthetic(real, poster_layout())
    with torch.no_grad():
        synthetic.representation.stored.add_(1)
    save(run_dir, synthetic, real)
    assert torch.equal(load(run_dir).images, synthetic.all().images.detach())


@pytest.mark.parametrize("name", ["distilled.safetensors", "whitening.safetensors"])
@pytest.mark.parametrize("place", [8, -1])
def test_one_changed_byte_is_refused(run_dir: Path, name: str, place: int) -> None:
    data = bytearray((run_dir / name).read_bytes())
    data[place] ^= 1
    (run_dir / name).write_bytes(data)
    with pytest.raises(InputError, match="was changed or cut short"):
        load(run_dir)


@pytest.mark.parametrize("manifest", [True, False])
def test_a_truncated_file_is_refused(run_dir: Path, manifest: bool) -> None:
    path = run_dir / "distilled.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    if not manifest:
        (run_dir / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"cut short|cannot be read"):
        load(run_dir)


def test_a_missing_whitening_is_refused(run_dir: Path) -> None:
    (run_dir / "whitening.safetensors").unlink()
    with pytest.raises(InputError, match=r"whitening\.safetensors is missing"):
        load(run_dir)


def test_a_missing_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 2}', "has format 2"),
        ('{"format": 1, "files": 3}', "does not list"),
        ('{"format": 1, "files": {"distilled.safetensors": {"a": 1}}}', "does not list"),
    ],
    ids=["half", "deep", "list", "newer", "number", "table"],
)
def test_a_damaged_manifest_is_refused(run_dir: Path, text: str, why: str) -> None:
    (run_dir / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=rf"manifest\.json {why}"):
        load(run_dir)


def test_a_newer_format_is_refused_naming_versions(run_dir: Path) -> None:
    path = run_dir / "distilled.safetensors"
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {**metadata, "format": 2, "distill": "9.9.0"})
    (run_dir / "manifest.json").unlink()
    with pytest.raises(InputError) as caught:
        load(run_dir)
    text = str(caught.value)
    for part in ("format 2", "9.9.0", "format 1", distill_core.__version__):
        assert part in text


@pytest.mark.parametrize("missing", ["class_names", "recipe", "budget", "whitening"])
def test_incomplete_metadata_are_refused(run_dir: Path, missing: str) -> None:
    path = run_dir / "distilled.safetensors"
    tensors, metadata = read_tensors(path)
    del metadata[missing]
    write_tensors(path, tensors, metadata)
    (run_dir / "manifest.json").unlink()
    with pytest.raises(InputError, match="not a complete artefact"):
        load(run_dir)


def test_tensors_of_others_are_refused(tmp_path: Path) -> None:
    save_file({"pixels": torch.zeros(1)}, tmp_path / "distilled.safetensors")
    with pytest.raises(InputError, match="not written by distill"):
        load(tmp_path)


def test_three_lines_train_a_network(run_dir: Path) -> None:
    torch.manual_seed(0)
    distilled = distill_core.load(run_dir)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    with torch.no_grad():
        before = functional.cross_entropy(network(distilled.images), distilled.labels)
    assert distilled.train(network) is network
    with torch.no_grad():
        after = functional.cross_entropy(network(distilled.images), distilled.labels)
    assert after < before


def test_a_network_that_diverges_is_not_given_back_as_if_it_were_trained(run_dir: Path) -> None:
    class Diverges(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(192, 6)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.layer(images.flatten(1)) * (torch.inf if self.training else 1)

    with pytest.raises(InputError, match="diverged: its parameters are not finite"):
        distill_core.load(run_dir).train(Diverges())


def test_a_plain_loader_and_loss_take_it(run_dir: Path) -> None:
    distilled = load(run_dir)
    loader = DataLoader(distilled.dataset, batch_size=4)
    images, labels = next(iter(loader))
    logits = torch.zeros(4, 6)
    assert float(functional.cross_entropy(logits, labels)) == pytest.approx(np.log(6), rel=1e-5)
    assert images.shape == (4, 3, 8, 8)


class TestTransform:
    def test_bytes_of_the_right_size_become_what_networks_were_tested_on(
        self, run_dir: Path, real: RealData
    ) -> None:
        transform = load(run_dir).transform
        pixels = torch.randint(256, (3, 8, 8), dtype=torch.uint8)
        expected = real.whitening.apply(pixels[None])[0]
        picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        assert torch.equal(transform(pixels), expected)
        assert torch.equal(transform(picture), expected)
        assert torch.allclose(transform(pixels.float() / 255), expected, atol=1e-6)
        assert torch.equal(transform(pixels[None]), expected[None])
        assert transform(picture).dtype == torch.float32

    def test_other_sizes_and_modes_are_brought_to_shape(self, run_dir: Path) -> None:
        transform = load(run_dir).transform
        grey = Image.new("L", (50, 30), 100)
        for image in (grey, grey.convert("RGBA"), grey.convert("P"), grey.convert("CMYK")):
            result = transform(image)
            assert result.shape == (3, 8, 8)
            assert torch.allclose(result, transform(torch.full((3, 8, 8), 100 / 255)), atol=1e-5)
        assert transform(torch.zeros(3, 50, 30)).shape == (3, 8, 8)

    def test_test_images_are_squashed_where_training_images_were(
        self, real: RealData, make_synthetic: MakeSynthetic, tmp_path: Path
    ) -> None:
        squashed = replace(real, spec=replace(real.spec, fit="squash"))
        distilled = load(save(tmp_path, make_synthetic(squashed, poster_layout()), squashed))
        pixels = np.full((8, 24, 3), 255, dtype=np.uint8)
        pixels[:, :6] = 0  # not in the centre
        picture = Image.fromarray(pixels)
        picture.save(tmp_path / "wide.png")
        whole = real.whitening.invert(distilled.transform(picture)[None])[0]
        assert torch.allclose(whole[:, :, 0], torch.zeros(3, 8), atol=0.3)
        read = distilled.loader(tmp_path / "wide.png")
        assert torch.equal(distilled.transform(read), distilled.transform(picture))
        assert load(save(tmp_path / "usual", make_synthetic(real, poster_layout()), real)
                    ).transform.fit == "crop"  # fmt: skip

    def test_pictures_and_tensors_are_resized_alike(self, run_dir: Path) -> None:
        transform = load(run_dir).transform
        pixels = np.random.default_rng(0).integers(0, 256, (40, 24, 3), dtype=np.uint8)
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)
        gap = (transform(Image.fromarray(pixels)) - transform(tensor)).abs().max()
        step = 1.5 / 255 / float(transform.whitening.values["std"].min())
        assert float(gap) < step

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (torch.zeros(8, 8, 3), "shape"),
            (torch.zeros(8, 8), "shape"),
            (torch.full((3, 8, 8), 255.0), "values from 255"),
            (torch.full((3, 8, 8), torch.nan), "values from nan"),
            (torch.zeros(3, 0, 8), "shape"),
            (torch.zeros(3, 8, 8, dtype=torch.int64), "type torch.int64"),
            (np.zeros((8, 8, 3)), "is a ndarray"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(
        self, run_dir: Path, image: object, message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            load(run_dir).transform(image)  # type: ignore[arg-type]

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_a_batch_of_none_stays_one(self, run_dir: Path, dtype: torch.dtype) -> None:
        assert load(run_dir).transform(torch.zeros(0, 3, 9, 9, dtype=dtype)).shape == (0, 3, 8, 8)

    def test_it_can_be_sent_to_workers(self, run_dir: Path) -> None:
        transform = load(run_dir).transform
        copy = pickle.loads(pickle.dumps(transform))
        image = torch.rand(3, 8, 8)
        assert torch.equal(copy(image), transform(image))


def test_greyscale_takes_colour_pictures(make_synthetic: MakeSynthetic, tmp_path: Path) -> None:
    real = small_data(6, channels=1)
    save(tmp_path, make_synthetic(real, image_layout(6)), real)
    transform = load(tmp_path).transform
    assert transform(Image.new("RGB", (9, 9), (10, 200, 30))).shape == (1, 8, 8)


def _with(run_dir: Path, edit: Callable[[dict[str, torch.Tensor], dict[str, Any]], None]) -> Path:
    """Change tensors and metadata of a file that no manifest vouches for."""
    path = run_dir / "distilled.safetensors"
    (run_dir / "manifest.json").unlink()
    tensors, metadata = read_tensors(path)
    edit(tensors, metadata)
    write_tensors(path, tensors, metadata)
    return path


HOSTILE = {
    "NaN label": (lambda t, m: t["labels"][2].fill_(float("nan")), "labels are not all finite"),
    "infinite pixel": (lambda t, m: t["pixels"].fill_(float("inf")), "images are not all finite"),
    "negative": (
        lambda t, m: t["labels"][1].copy_(torch.tensor([2.0, -1, 0, 0, 0, 0])),
        "row 1 of its labels is not a distribution",
    ),
    "no sum of 1": (lambda t, m: t["labels"][3].mul_(2), "row 3 of its labels"),
    "flat": (lambda t, m: t.update(labels=t["labels"][0].clone()), "its labels have shape (6,)"),
    "a row too many": (
        lambda t, m: t.update(labels=torch.cat([t["labels"], t["labels"][:1]])),
        "a row for each image",
    ),
    "a class too many": (lambda t, m: m["class_names"].append("more"), "its labels have shape"),
    "whole numbers": (
        lambda t, m: t.update(labels=t["labels"].round().long()),
        "labels are not all finite numbers",
    ),
    "names": (lambda t, m: m.update(class_names="abcdef"), "class names are not a list"),
    "another size": (lambda t, m: m.update(image_shape=[3, 9, 8]), "images have shape"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_network_can_be_trained_on_is_refused(name: str, run_dir: Path) -> None:
    edit, said = HOSTILE[name]
    path = _with(run_dir, edit)
    with pytest.raises(InputError) as caught:
        load(path)
    assert said in str(caught.value)
    assert caught.value.what.startswith(str(path))

"""Stored numbers: what they decode to, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.artefact.artefact import load, load_whole, read_about
from distill_core.artefact.count_storage import storage_of
from distill_core.artefact.packing import items
from distill_core.commands.verify import verify
from distill_core.commands.verify_decoded import check_decoded
from distill_core.config.run_config import to_toml
from distill_core.config.settings import parse_settings
from distill_core.contracts.streams import seeded
from distill_core.export import export
from distill_core.system.files import read_tensors, write_tensors
from registry import InputError
from tests.distill_core.artefact.stored_results import DECODERS, assembled, save
from tests.distill_core.small_run import installed, small_assembly
from tests.doc_blocks import blocks

KINDS: list[tuple[str, dict[str, Any], str, str]] = [
    *((name, options, "float32", "float32") for name, options in DECODERS.items()),
    ("gsdd", DECODERS["gsdd"], "bfloat16", "uint4"),
    ("images", {"downsample": 2}, "float32", "float32"),
    ("images", {}, "float32", "uint8"),
    ("basis", DECODERS["basis"], "uint4", "float32"),
    ("coreset", {}, "uint8", "bfloat16"),
]


@pytest.mark.parametrize(("representation", "options", "stored", "labels"), KINDS)
def test_it_decodes_to_what_the_run_has(
    representation: str, options: dict[str, Any], stored: str, labels: str, tmp_path: Path
) -> None:
    assembly = assembled(
        representation, images={**options, "stored": stored}, labels={"stored": labels}
    )
    file = save(assembly, tmp_path / "run")
    assert not (tmp_path / "run" / "distilled.safetensors").exists()
    whole = load(tmp_path / "run")
    (tmp_path / "alone").mkdir()
    alone = load(shutil.copy(file, tmp_path / "alone" / "any name.safetensors"))
    synthetic, recipe = assembly.synthetic, assembly.algorithm.recipe()
    expected = synthetic.all()
    for small in (whole, load(file), alone):
        assert torch.equal(small.images, expected.images.detach())
        assert not small.images.requires_grad
        assert torch.allclose(small.labels, expected.labels.detach(), atol=1e-6)
        assert (small.recipe, small.class_names) == (recipe, synthetic.spec.class_names)
        assert small.storage == storage_of(synthetic, assembly.real.whitening)
        assert small.budget == synthetic.budget()
        assert small.is_pixels == ((representation, options, stored) == ("images", {}, "float32"))
    assert (whole.verified, alone.verified) == (True, False)
    picture = torch.rand(3, 8, 8)
    whitened = assembly.real.whitening.apply(picture[None])[0]
    assert torch.allclose(whole.transform(picture), whitened, atol=1e-6)
    with pytest.raises(InputError, match=r"whitening\.safetensors is missing"):
        alone.transform(picture)
    shutil.copy(tmp_path / "run" / "whitening.safetensors", tmp_path / "alone")
    assert torch.equal(load(alone.path).transform(picture), whole.transform(picture))


@pytest.mark.parametrize("stored", ["float32", "uint4"])
def test_real_images_that_are_stored_smaller_need_the_whitening(
    stored: str, tmp_path: Path
) -> None:
    """They are scaled up before it; alone they were decoded to other images without a word."""
    assembly = assembled("coreset", images={"stored": stored}, ipc=0.5)
    file = save(assembly, tmp_path / "run")
    images = assembly.synthetic.all().images.detach()
    assert torch.equal(load(tmp_path / "run").images, images)
    assert torch.equal(load(file).images, images)
    assert all(check.passed for check in verify(tmp_path / "run"))
    settings = parse_settings(to_toml(assembly.config).encode(), tmp_path)
    assert check_decoded(tmp_path / "run", settings, installed()).passed
    alone = tmp_path / "alone.safetensors"
    with pytest.raises(InputError, match=r"whitening\.safetensors is missing"):
        load(shutil.copy(file, alone))
    shutil.copy(tmp_path / "run" / "whitening.safetensors", tmp_path)
    assert torch.equal(load(alone).images, images)


def test_a_poster_is_laid_out_as_in_its_run(tmp_path: Path) -> None:
    """The algorithm decides how many patches a poster has, and bytes how large it is."""
    options = {"repr": {"stored": "uint8", "patches": None}, "labeler": {"stored": "uint8"}}
    assembly = small_assembly(ipc=None, budget_bytes=900, options=options)
    save(assembly, tmp_path)
    images, labels = (part.detach() for part in assembly.synthetic.all())
    found = load_whole(tmp_path)
    assert torch.equal(found.distilled.images, images)
    assert torch.allclose(found.distilled.labels, labels, atol=1e-6)
    assert torch.equal(found.tensors["pixels"], assembly.synthetic.representation.canvases())
    assert torch.equal(found.tensors["class_grid"], assembly.placement.class_grid.int())
    assert torch.equal(found.tensors["items"][:, 1:], assembly.placement.layout.items.yxyx.int())


def test_a_file_that_does_not_say_its_size_is_counted(tmp_path: Path) -> None:
    """It was read as one that has images beside its numbers, and refused."""
    images = {**DECODERS["gsdd"], "stored": "uint4"}
    file = save(assembled("gsdd", images=images, labels={"stored": "uint2"}), tmp_path)
    tensors, metadata = read_tensors(file)
    del metadata["storage"]
    write_tensors(tmp_path / "changed.safetensors", tensors, metadata)
    assert load(tmp_path / "changed.safetensors").storage == load(file).storage


def test_tensors_that_are_none_of_its_numbers_are_refused(tmp_path: Path) -> None:
    """Numbers are counted by their names; others would be bytes that nobody counted."""
    file = save(assembled("gsdd", images=DECODERS["gsdd"]), tmp_path)
    tensors, metadata = read_tensors(file)
    write_tensors(tmp_path / "changed.safetensors", tensors | {"x": torch.zeros(3)}, metadata)
    with pytest.raises(InputError, match=r"12 bytes of its tensors are none of its numbers"):
        load(tmp_path / "changed.safetensors")


def test_the_plain_code_of_the_page_decodes_it(tmp_path: Path) -> None:
    """docs/guide/use-the-result.md, "Stored numbers": what a reader copies, beside the package."""
    names: dict[str, Any] = {}
    for block in blocks("docs/guide/use-the-result.md"):
        if "read_small(path)" in block.text or "gsdd(d, about)" in block.text:
            exec(block.text, names)
    for name, options in DECODERS.items():
        stored = {"ddif": "float32", "speed": "bfloat16"}.get(name, "uint8")
        labeler = "onehot" if name == "fred" else "soft"
        labels = {} if name == "fred" else {"stored": "uint4"}
        images = {**options, "stored": stored}
        file = save(assembled(name, labeler, images=images, labels=labels), tmp_path / name)
        d, about = names["read_small"](file)
        expected, found = load(tmp_path / name), names[name](d, about)
        assert torch.allclose(found, expected.images, atol=1e-5), name
        given = names["labels_of"](d, about, len(found))
        assert torch.allclose(given, expected.labels, atol=1e-6), name


@pytest.mark.parametrize(
    ("labeler", "own"), [("soft", {}), ("poddl", {}), ("poddl", {"constraint": "softmax"})]
)
def test_the_plain_code_makes_labels_of_levels_below_zero(
    labeler: str, own: dict[str, Any], tmp_path: Path
) -> None:
    """It divided by sums as they came: learned levels leave zero, and two bits a row of zeros."""
    names: dict[str, Any] = {}
    for block in blocks("docs/guide/use-the-result.md"):
        if "read_small(path)" in block.text or "gsdd(d, about)" in block.text:
            exec(block.text, names)
    labels = {"stored": "uint2", "scales": "learned", **own}
    assembly = assembled("images", labeler, labels=labels)
    with torch.no_grad():
        inner = assembly.synthetic.labeler.inner
        inner.rows.copy_(torch.rand(inner.rows.shape, generator=seeded(0)))
        inner.rows[0], inner.rows[1] = 0.0, 0.1
        (low,) = (p for n, p in assembly.synthetic.labeler.levels.items() if n.endswith("low"))
        for lowest in (-0.1, 0.0):
            low.fill_(lowest)
            file = save(assembly, tmp_path / f"low{lowest:g}")
            d, about = names["read_small"](file)
            assert (float(d["label.rows"].min()) < 0) == (lowest < 0)
            expected = load(file).labels
            given = names["labels_of"](d, about, len(expected))
            assert torch.allclose(given, expected, atol=1e-6), lowest


def test_every_format_is_exported(tmp_path: Path) -> None:
    assembly = assembled("gsdd", images={**DECODERS["gsdd"], "stored": "uint8"})
    file = save(assembly, tmp_path / "run")
    images = assembly.synthetic.all().images.detach()
    for form in ("images", "tensors", "huggingface", "dd-ranking"):
        export(tmp_path / "run", tmp_path / form, form)
    assert len(list((tmp_path / "images").glob("*/*.png"))) == len(images)
    written, _ = read_tensors(tmp_path / "tensors" / "tensors.safetensors")
    assert torch.equal(written["images"], images)
    shared = tmp_path / "huggingface"
    assert load(shared).path == shared / "stored.safetensors"
    assert torch.equal(load(shared).images, images)
    assert load(shared).verified
    true_set, _ = read_tensors(tmp_path / "dd-ranking" / "poster.safetensors")
    assert torch.equal(items(true_set), images)
    chosen = json.loads((tmp_path / "dd-ranking" / "geometry.json").read_text())["chosen"]
    given = torch.load(tmp_path / "dd-ranking" / "images.pt", weights_only=True)
    assert torch.equal(given, images[chosen])
    (tmp_path / "run" / "whitening.safetensors").unlink()
    with pytest.raises(InputError, match=r"whitening\.safetensors is missing"):
        export(file, tmp_path / "pictures", "images")


def test_pixels_as_they_are_have_no_small_file(tmp_path: Path) -> None:
    assert not save(assembled("images"), tmp_path).exists()
    assert load(tmp_path).path == tmp_path / "distilled.safetensors"


def test_what_it_says_of_itself_needs_no_plugin(tmp_path: Path) -> None:
    file = save(assembled("gsdd", images=DECODERS["gsdd"]), tmp_path)
    tensors, metadata = read_tensors(file)
    _named(metadata)
    write_tensors(tmp_path / "changed.safetensors", tensors, metadata)
    about = read_about(tmp_path / "changed.safetensors")
    assert about["components"]["repr"]["name"] == "holograms"
    assert "distill export RUN --format tensors" in about["how_to_load"]


def _named(metadata: dict[str, Any]) -> None:
    metadata["components"]["repr"] |= {"name": "holograms", "distribution": "lasers"}


def _long_named(metadata: dict[str, Any]) -> None:
    metadata["components"]["repr"] |= {"name": "h" * 10**5, "distribution": "lasers"}


def _larger(metadata: dict[str, Any]) -> None:
    metadata["made_with"]["ipc"] = 1e9


def _denser(metadata: dict[str, Any]) -> None:
    metadata["components"]["repr"]["options"]["points"] = 5


def _no_number(metadata: dict[str, Any]) -> None:
    metadata["made_with"]["ipc"] = "9" * 1000


def _flat(metadata: dict[str, Any]) -> None:
    metadata["image_shape"] = [3, -8, -8]


def _tall(metadata: dict[str, Any]) -> None:
    metadata["image_shape"] = ["9" * 1000, 10**6, 8]


def _unlisted(metadata: dict[str, Any]) -> None:
    metadata["budget"] = []


def _wordy(metadata: dict[str, Any]) -> None:
    metadata["components"]["repr"]["options"]["points"] = "9" * 10**5


def _posters(metadata: dict[str, Any]) -> None:
    options = {"size": "100000x100000", "patches": "2x3"}
    metadata["made_with"]["item_draws"] = None
    metadata["components"]["repr"] |= {"name": "poster", "options": options}


def _patched(metadata: dict[str, Any]) -> None:
    options = {"patches": "100000x100000"}
    metadata["made_with"]["item_draws"] = None
    metadata["components"]["repr"] |= {"name": "poster", "options": options}


def _many(metadata: dict[str, Any]) -> None:
    options = {"per_class": 10**12}
    metadata["components"]["repr"] |= {"name": "coreset", "options": options}


def _newer(metadata: dict[str, Any]) -> None:
    metadata["format"] = 9


def _smaller(metadata: dict[str, Any]) -> None:
    metadata["storage"]["bytes"] //= 2


def _turned(metadata: dict[str, Any]) -> None:
    metadata["class_grid"] = [[0, 0, 1], [2, 3, 4]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_named, r"decoded by representation 'holograms', which is not installed here"),
        (_long_named, r"decoded by representation 'h{60}', which"),
        (_larger, r"MB of images would be made of"),
        (_denser, r"is not a complete artefact \(RuntimeError"),
        (_no_number, r"it has '9+\.* images per class"),
        (_flat, r"its images have shape \[3, -8, -8\]"),
        (_tall, r"its images have shape"),
        (_unlisted, r"is not a complete artefact \(AttributeError"),
        (_wordy, r"representation 'gsdd' says: option repr\.points = '9+\.\.\."),
        (_posters, r"decoding it takes [0-9,]+ MB at once"),
        (_patched, r"100000x100000 patches are too many"),
        (_many, r"cannot be"),
        (_newer, r"has format 9"),
        (_smaller, r"it has 2,520 numbers in 10,080 bytes, and says .* in 5,040 bytes"),
        (_turned, r"has classes \[\[0, 0, 1\], \[2, 3, 4\]\] on a grid of 2x3"),
    ],
)
def test_what_cannot_be_decoded_is_refused(
    change: Callable[[dict[str, Any]], None], sentence: str, tmp_path: Path
) -> None:
    file = save(assembled("gsdd", images=DECODERS["gsdd"]), tmp_path)
    tensors, metadata = read_tensors(file)
    change(metadata)
    write_tensors(tmp_path / "changed.safetensors", tensors, metadata)
    with pytest.raises(InputError, match=sentence) as refused:
        load(tmp_path / "changed.safetensors")
    assert len(str(refused.value)) < 1000
    assert change is not _named or "package lasers" in refused.value.expected

"""Labels in fewer bits: what is counted, what the file has, and what the gradient is."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.artefact.artefact import load
from distill_core.artefact.count_storage import storage_of
from distill_core.artefact.stored import StoredAs, StoredLabels, looks_at_images
from distill_core.artefact.stored_file import decoded_state, read_stored
from distill_core.artefact.stored_numbers import unpacked
from distill_core.artefact.stored_types import BITS, bytes_of
from distill_core.commands.verify import verify
from distill_core.run.assemble import Assembly
from distill_core.run.sizing import check_bytes
from registry import InputError, OptionError
from tests.distill_core.artefact.stored_results import assembled, save
from tests.distill_core.small_run import small_assembly

CLASSES, IMAGES, PIXELS = 6, 12, 12 * 3 * 8 * 8


def labelled(stored: str, labeler: str = "soft", images: str = "float32") -> Assembly:
    """Two images of each class, a row of six label numbers for each; labels off their start."""
    assembly = assembled("images", labeler, images={"stored": images}, labels={"stored": stored})
    with torch.no_grad():
        for parameter in assembly.synthetic.labeler.parameters():
            drawn = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(3))
            parameter.copy_((parameter + drawn) / 2)
        assembly.synthetic.project()
    return assembly


def _stored_rows(labeler: StoredLabels) -> Tensor:
    """Return the label numbers as a file has them, in the type of those that are trained."""
    kept = unpacked(labeler.packed(), {"rows": labeler.kind}, labeler.shapes())
    return kept["rows"].to(next(labeler.inner.parameters(), torch.ones(())).dtype)


@pytest.mark.parametrize("stored", ["bfloat16", *BITS])
@pytest.mark.parametrize(("labeler", "images"), [("soft", "float32"), ("poddl", "uint8")])
def test_labels_take_the_bytes_of_their_type(
    stored: str, labeler: str, images: str, tmp_path: Path
) -> None:
    assembly = labelled(stored, labeler, images)
    real, synthetic = assembly.real, assembly.synthetic
    rows = {"soft": IMAGES, "poddl": IMAGES}[labeler]
    scales = 8 if stored in BITS else 0  # fewer than 32 rows: one for all columns
    expected = math.ceil(rows * CLASSES * bytes_of(stored)) + scales
    storage = storage_of(synthetic, real.whitening)
    assert storage.label_bytes == expected
    data = 4 * PIXELS if images == "float32" else PIXELS + 8 * 3
    assert storage.bytes == data + expected
    assert synthetic.budget().label_numbers == rows * CLASSES
    file = save(assembly, tmp_path)
    header = 8 + struct.unpack("<Q", file.read_bytes()[:8])[0]
    distilled = load(tmp_path)
    assert file.stat().st_size - header == distilled.storage.bytes == storage.bytes
    plain = labelled("float32", labeler).synthetic
    plain.load_state_dict(decoded_state(*read_stored(tmp_path / "stored.safetensors")))
    assert torch.equal(distilled.images, plain.all().images.detach())
    assert torch.allclose(distilled.labels, plain.all().labels.detach(), atol=1e-6)
    assert all(check.passed for check in verify(tmp_path)), verify(tmp_path)


@pytest.mark.parametrize("stored", ["bfloat16", "uint4"])
def test_the_gradient_is_that_of_the_stored_rows(stored: str) -> None:
    """Straight through: of rows r = q / sum(q) it is (w - w.r) / sum(q), with q stored."""
    labeler = labelled(stored).synthetic.labeler.double()
    assert isinstance(labeler, StoredLabels)
    rows = labeler.inner.rows
    assert isinstance(rows, Tensor)
    boxes = labelled("float32").placement.layout.items
    images = torch.zeros(len(boxes), 3, 8, 8, dtype=torch.float64)
    labels = labeler.labels(boxes, images)
    weights = torch.randn(labels.shape, dtype=torch.float64)
    (found,) = torch.autograd.grad((labels * weights).sum(), rows)
    stored_rows = _stored_rows(labeler)
    assert not torch.equal(stored_rows, rows)
    sums = stored_rows.sum(1, keepdim=True)
    expected = (weights - (weights * stored_rows / sums).sum(1, keepdim=True)) / sums
    assert torch.allclose(labels, stored_rows / sums, atol=1e-12)
    assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("stored", ["bfloat16", "uint4"])
def test_labels_that_start_one_hot_have_the_gradient_of_others(stored: str) -> None:
    def gradient(kind: str) -> Tensor:
        synthetic = assembled(labels={"stored": kind}).synthetic
        labels = synthetic.all().labels
        weights = torch.randn(labels.shape, generator=torch.Generator().manual_seed(0))
        return torch.autograd.grad((labels * weights).sum(), list(synthetic.labeler.parameters()))[
            0
        ]

    assert torch.allclose(gradient(stored), gradient("float32"), atol=1e-6)
    assert gradient(stored).count_nonzero() > IMAGES


def test_labels_of_a_teacher_stay_distributions() -> None:
    labeler = labelled("uint4", "teacher").synthetic.labeler
    assert looks_at_images(labeler)
    with torch.no_grad():
        labeler.inner.rows.copy_(torch.randn(IMAGES, CLASSES).softmax(1))
        labeler.project()
        boxes = labelled("float32").placement.layout.items
        labels = labeler.labels(boxes, torch.zeros(IMAGES, 3, 8, 8))
    assert torch.allclose(labels.sum(1), torch.ones(IMAGES))
    assert len(_stored_rows(labeler).unique()) <= 16


@pytest.mark.parametrize(
    ("labeler", "options"), [("onehot", {}), ("poddl", {"mode": "fixed"})]
)  # fmt: skip
def test_a_labeler_without_numbers_refuses_a_type(labeler: str, options: dict[str, str]) -> None:
    """With a budget in bytes, too, where no size is then looked for."""
    chosen = {"labeler": {"stored": "uint8", **options}}
    budgets: list[dict[str, Any]] = [{"ipc": 0.8}, {"ipc": None, "budget_bytes": 5000}]
    for budget in budgets:
        with pytest.raises(OptionError, match=r"stores no numbers here, so that labeler\.stored"):
            small_assembly(labeler=labeler, options=chosen, **budget)


@pytest.mark.parametrize("stored", ["float32", "uint4"])
def test_a_planted_label_buffer_breaks_the_budget(stored: str) -> None:
    synthetic = labelled(stored).synthetic
    whitening = labelled(stored).real.whitening
    before = storage_of(synthetic, whitening)
    check_bytes(before, before.bytes)
    owner = synthetic.labeler.inner if stored != "float32" else synthetic.labeler
    owner.register_buffer("prior", torch.zeros(10))
    owner.register_buffer("more", torch.zeros(5, dtype=torch.int32))
    after = storage_of(synthetic, whitening)
    assert after.label_bytes == before.label_bytes + 60
    with pytest.raises(InputError, match="do not fit"):
        check_bytes(after, before.bytes)


def test_fewer_bits_of_labels_leave_more_for_pixels() -> None:
    def pixels(stored: str) -> float:
        options = {"repr": {"patches": "2x5"}, "labeler": {"stored": stored}}
        assembly = small_assembly(ipc=None, budget_bytes=2048, options=options)
        assert storage_of(assembly.synthetic, assembly.real.whitening).bytes <= 2048
        assert not isinstance(assembly.synthetic.representation, StoredAs)
        return assembly.synthetic.budget().pixels

    assert pixels("uint8") > pixels("float32")

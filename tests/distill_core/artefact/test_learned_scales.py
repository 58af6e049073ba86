"""Learned scales: their gradient against the paper's closed form, and what a run makes of them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.artefact.artefact import load
from distill_core.artefact.count_storage import storage_of
from distill_core.artefact.stored import StoredAs
from distill_core.artefact.stored_types import BITS, Scale, quantised, quantised_by
from distill_core.commands.verify import verify
from distill_core.contracts.synthetic import check_budget
from distill_core.run.loop import OuterLoop
from registry import OptionError
from tests.distill_core.artefact.stored_results import DECODERS, assembled, save
from tests.distill_core.small_run import small_assembly


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("bits", BITS.values())
def test_the_gradient_is_that_of_the_paper(bits: int) -> None:
    """Esser et al. 2020, equations 3 and 5, with v = x - low, Q_N = 0 and Q_P = 2**bits - 1."""
    values, weights = drawn(200), drawn(200, seed=1)
    low, step = torch.tensor(-1.0).double(), torch.tensor(1.7 / 2**bits).double()
    learned = [each.clone().requires_grad_() for each in (values, low, step)]
    made = quantised_by(learned[0], Scale(learned[1], learned[2]), bits)
    assert torch.equal(made, quantised(values, Scale(low, step), bits))
    found = torch.autograd.grad((made * weights).sum(), learned)
    most = 2**bits - 1
    expected = [torch.zeros(200).double(), torch.zeros(()).double(), torch.zeros(()).double()]
    for k, (value, weight) in enumerate(zip(values, weights, strict=True)):
        place = (value - low) / step
        if place <= 0:
            expected[1] += weight  # the derivative in v is 0, and low itself remains
        elif place >= most:
            expected[1] += weight
            expected[2] += weight * most
        else:
            expected[0][k] = weight
            expected[2] += weight * (place.round() - place)
    assert 5 < int((expected[0] == 0).sum()) < 195
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_the_gradient_of_a_scale_is_damped_and_along_its_logarithm() -> None:
    """The paper's factor is 1 / sqrt(N Q_P), for N numbers of a scale."""
    representation = assembled("images", images={"stored": "uint4", "scales": "learned"})
    stored = representation.synthetic.representation.double()
    assert isinstance(stored, StoredAs)
    pixels = stored.inner.pixels
    weights = drawn(*pixels.shape)
    found = torch.autograd.grad((stored.canvases() * weights).sum(), list(stored.levels.values()))
    low, log_step = stored.levels.values()
    scale = Scale(low.detach().clone().requires_grad_(), log_step.exp().detach().requires_grad_())
    made = quantised_by(pixels.detach(), scale, 4)
    plain = torch.autograd.grad((made * weights).sum(), list(scale))
    factor = (12 * 64 * 15) ** -0.5
    assert torch.allclose(found[0], factor * plain[0])
    assert torch.allclose(found[1], factor * plain[1] * scale.step)


@pytest.mark.parametrize("representation", ["images", "gsdd"])
def test_they_are_stored_and_counted_like_fitted_ones(representation: str, tmp_path: Path) -> None:
    options = {**DECODERS.get(representation, {}), "stored": "uint4"}
    plain = assembled(representation, images=options)
    assembly = assembled(
        representation,
        images={**options, "scales": "learned"},
        labels={"stored": "uint4", "scales": "learned"},
    )
    synthetic = assembly.synthetic
    starts = [each.all().images for each in (synthetic, plain.synthetic)]
    assert torch.allclose(*starts, atol=1e-5)
    with torch.no_grad():
        for each in synthetic.representation.levels.values():
            each.add_(0.1)
    assert not torch.allclose(synthetic.all().images, starts[0], atol=1e-3)
    assert synthetic.budget() == plain.synthetic.budget()
    check_budget(synthetic.budget(), 2)
    storage = storage_of(synthetic, assembly.real.whitening)
    fitted = storage_of(plain.synthetic, assembly.real.whitening)
    assert storage.bytes - storage.label_bytes == fitted.bytes - fitted.label_bytes
    file = save(assembly, tmp_path)
    header = 8 + struct.unpack("<Q", file.read_bytes()[:8])[0]
    assert file.stat().st_size - header == storage.bytes
    assert torch.equal(load(file).images, load(tmp_path).images)
    assert torch.equal(load(file).images, synthetic.all().images.detach())
    assert all(check.passed for check in verify(tmp_path)), verify(tmp_path)


def test_a_run_learns_them_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def loop(folder: str) -> OuterLoop:
        (tmp_path / folder).mkdir(exist_ok=True)
        options = {"repr": {"stored": "uint2", "scales": "learned"}}
        return OuterLoop(small_assembly(options=options), tmp_path / folder)

    def levels(run: OuterLoop) -> Tensor:
        representation = run.assembly.synthetic.representation
        assert isinstance(representation, StoredAs)
        return torch.cat([each.detach().flatten() for each in representation.levels.values()])

    whole, first, second = loop("a"), loop("b"), loop("b")
    start = levels(whole)
    whole.run()
    assert bool((levels(whole) != start).all())
    first.run(stop=lambda: first.step >= 2)
    second.load_state_dict(first.state_dict())
    second.run()
    assert torch.equal(levels(second), levels(whole))
    assert torch.equal(second.result.synthetic.all().images, whole.result.synthetic.all().images)


def test_coverage_is_that_of_numbers_alone() -> None:
    options = {"repr": {"stored": "uint2"}}
    fitted = small_assembly(options=options).synthetic.coverage()
    options = {"repr": {"stored": "uint2", "scales": "learned"}}
    learned = small_assembly(options=options).synthetic
    inside = [each.mean() for each in learned.coverage()]
    assert len(fitted) == 1
    assert len(inside) == 3
    (pixels,) = learned.representation.inner.parameters()
    low, log_step = learned.representation.levels.values()
    place = (pixels - low) / log_step.exp()
    out = (place < 0) | (place > 3)
    assert bool(out.any())
    assert torch.equal(learned.coverage()[0], torch.where(out, 0, fitted[0]))
    assert all(torch.isclose(each, inside[0]) for each in inside)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"images": {"stored": "bfloat16"}}, "repr.stored = bfloat16, which has no scales"),
        ({"images": {}}, "repr.stored = float32, which has no scales"),
        ({"labels": {}}, "labeler.stored = float32, which has no scales"),
        ({"representation": "coreset", "images": {"stored": "uint4"}}, "'coreset' has no numbers"),
        ({"labeler": "teacher", "labels": {"stored": "uint4"}}, "'teacher' has no numbers"),
    ],
)
def test_scales_that_nothing_can_learn_are_refused(parts: dict[str, Any], sentence: str) -> None:
    part = "labels" if "labels" in parts else "images"
    parts = {**parts, part: {**parts[part], "scales": "learned"}}
    with pytest.raises(OptionError, match=sentence):
        assembled(**parts)


@pytest.mark.parametrize("scales", ["tensor", "learned"])
@pytest.mark.parametrize(("part", "option"), [("images", "repr"), ("labels", "labeler")])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_types_without_scales_refuse_an_option_of_scales(
    stored: str, part: str, option: str, scales: str
) -> None:
    said = f"option {option}.scales = {scales} has no effect with {option}.stored = {stored}"
    parts: dict[str, Any] = {part: {"stored": stored, "scales": scales}}
    with pytest.raises(OptionError, match=said) as refused:
        assembled(**parts)
    assert refused.value.next.startswith(f"drop -o {option}.scales")

"""Stored types: codes against brute force, gradients, and bytes on the disk."""

from __future__ import annotations

import copy
import json
import shutil
import struct
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.artefact.artefact import load
from distill_core.artefact.count_storage import storage_of
from distill_core.artefact.stored import StoredAs
from distill_core.artefact.stored_file import decoded_state, read_stored
from distill_core.artefact.stored_numbers import StoredNumbers, unpacked
from distill_core.artefact.stored_types import BITS, Scale, codes, fit, pack, quantised, unpack
from distill_core.commands.verify import verify
from distill_core.run.assemble import Assembly, assemble
from distill_core.run.loop import OuterLoop
from distill_core.run.manifest import manifest
from distill_core.system.files import read_tensors, write_tensors
from registry import InputError
from tests.distill_core.small_run import installed, save_artefact, small_assembly, small_config
from tests.doc_blocks import blocks

KINDS = ("bfloat16", *BITS)
DECODED = Path(__file__).parents[2] / "fixtures" / "run-decoded"


@given(st.sampled_from(sorted(BITS.values())), st.lists(st.integers(0, 255), max_size=40))
def test_codes_are_packed_without_loss(bits: int, numbers: list[int]) -> None:
    """Against one bit after the other."""
    whole = [number % 2**bits for number in numbers]
    packed = pack(torch.tensor(whole, dtype=torch.int64), bits)
    stream = [(code >> k) & 1 for code in whole for k in range(bits)]
    stream += [0] * (-len(stream) % 8)
    expected = [
        sum(bit << k for k, bit in enumerate(stream[i : i + 8])) for i in range(0, len(stream), 8)
    ]
    assert packed.dtype == torch.uint8
    assert packed.tolist() == expected
    assert unpack(packed, bits, (len(whole),)).tolist() == whole


@given(st.sampled_from(sorted(BITS.values())), st.integers(0, 1000), st.sampled_from([None, 1]))
def test_every_number_is_at_its_nearest_level(bits: int, seed: int, axis: int | None) -> None:
    values = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed))
    scale = fit(values, bits, axis)
    assert scale.low.numel() == (1 if axis is None else 3)
    levels = scale.low + torch.arange(2**bits).view(-1, 1, 1, 1) * scale.step
    nearest = (levels - values).abs().amin(0)
    assert torch.allclose((quantised(values, scale, bits) - values).abs(), nearest, atol=1e-5)


@pytest.mark.parametrize("bits", BITS.values())
def test_the_fitted_range_is_no_worse_than_the_whole_one(bits: int) -> None:
    values = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    low = values.min()
    whole = Scale(low, (values.max() - low) / (2**bits - 1))
    errors = [
        (quantised(values, scale, bits) - values).square().mean()
        for scale in (fit(values, bits, None), whole)
    ]
    assert errors[0] <= errors[1] * (1 + 1e-6)
    assert bits == 8 or errors[0] < 0.8 * errors[1]


def test_constant_numbers_are_stored_exactly() -> None:
    values = torch.full((2, 3), 0.7)
    assert torch.allclose(quantised(values, fit(values, 2, None), 2), values)


def stored_run(stored: str, representation: str = "poster", **options: Any) -> Assembly:
    settings = {"stored": stored, **options}
    if representation == "poster":
        return small_assembly(options={"repr": settings})
    config = small_config(ipc=2, labeler="soft")
    checked = installed()["representation"].check(representation, settings)
    labels = installed()["labeler"].check("soft", {})
    tables = {**config.options, "repr": checked, "labeler": labels}
    config = config.model_copy(
        update={"repr": representation, "labeler": "soft", "options": tables}
    )
    return assemble(config, installed())


@pytest.mark.parametrize("stored", KINDS)
def test_the_gradient_passes_straight_through(stored: str) -> None:
    representation = stored_run(stored).synthetic.representation
    assert isinstance(representation, StoredAs)
    items = representation.layout.items
    weights = torch.randn(len(items), 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = representation.inner.pixels
    through, direct = (
        torch.autograd.grad((part.expand(items) * weights).sum(), pixels)[0]
        for part in (representation, representation.inner)
    )
    assert torch.equal(through, direct)
    assert not torch.equal(representation.canvases(), representation.inner.canvases())
    assert dict(representation.inner.named_parameters())["pixels"] is pixels


@pytest.mark.parametrize("stored", BITS)
def test_images_have_as_many_values_as_there_are_levels(stored: str) -> None:
    canvas = stored_run(stored).synthetic.representation.canvases()
    assert all(len(channel.unique()) <= 2 ** BITS[stored] for channel in canvas[0])


@pytest.mark.parametrize(
    ("representation", "options"),
    [("poster", {}), ("poster", {"canvas": "lowrank"}), ("fred", {}), ("coreset", {}),
     ("basis", {"bases": 2}), ("gsdd", {"points": 4, "fit_steps": 2})],
)  # fmt: skip
@pytest.mark.parametrize("stored", ["bfloat16", "uint4"])
def test_the_file_is_as_small_as_the_metre_says_and_gives_the_same_images(
    stored: str, representation: str, options: dict[str, Any], tmp_path: Path
) -> None:
    assembly = stored_run(stored, representation, **options)
    synthetic, real = assembly.synthetic, assembly.real
    record = manifest(assembly, installed(), step=0, seconds=0)
    recipe = assembly.algorithm.recipe()
    save_artefact(tmp_path, synthetic, real=real, recipe=recipe, manifest=record)
    file = tmp_path / "stored.safetensors"
    header = 8 + struct.unpack("<Q", file.read_bytes()[:8])[0]
    storage = storage_of(synthetic, real.whitening)
    assert file.stat().st_size - header == storage.bytes == load(tmp_path).storage.bytes
    plain = stored_run("float32", representation, **options)
    assert storage.bytes < storage_of(plain.synthetic, real.whitening).bytes
    plain.synthetic.load_state_dict(decoded_state(*read_stored(file)))
    again, distilled = plain.synthetic.all(), load(tmp_path)
    assert torch.equal(distilled.images, again.images.detach())
    assert torch.equal(distilled.labels, again.labels.detach())
    assert all(check.passed for check in verify(tmp_path)), verify(tmp_path)


def test_plain_code_reads_a_packed_poster(tmp_path: Path) -> None:
    """The lines of docs/guide/use-the-result.md, on a poster of 4 bits."""
    from safetensors.torch import load_file

    names: dict[str, Any] = {}
    for block in blocks("docs/guide/use-the-result.md"):
        if "read_small(path)" in block.text:
            exec(block.text, names)
    assembly = stored_run("uint4")
    record = manifest(assembly, installed(), step=0, seconds=0)
    recipe = assembly.algorithm.recipe()
    save_artefact(tmp_path, assembly.synthetic, real=assembly.real, recipe=recipe, manifest=record)
    file = tmp_path / "stored.safetensors"
    plain, about = names["read_small"](file)
    d, pixels, shape = load_file(file), plain["data.pixels"], about["shapes"]["data.pixels"]
    assert torch.equal(pixels, assembly.synthetic.representation.canvases())
    metadata = {"format": 1, "type": "uint4", "shapes": {"pixels": shape}, "class_grid": []}
    write_tensors(tmp_path / "old" / file.name, d, metadata)
    with pytest.raises(InputError, match="has the stored numbers alone"):
        load(tmp_path / "old" / file.name)
    again = decoded_state(*read_stored(tmp_path / "old" / file.name))
    assert torch.equal(again["representation.pixels"], pixels)


@given(
    st.sampled_from(KINDS),
    st.sampled_from(["channel", "tensor", "learned"]),
    st.lists(st.sampled_from([1, 2, 3, 5, 33]), max_size=4),
    st.sampled_from([0.0, 1e-39, 1e-3, 1.0, 1e15]),
    st.sampled_from([0.0, -3.3, 1e3]),
)
def test_a_file_gives_what_was_trained_on_to_the_bit(
    kind: str, scales: str, shape: list[int], spread: float, offset: float
) -> None:
    """Of any shape: single and constant numbers, last bytes that are not full, tiny ranges."""
    module = torch.nn.Module()
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    module.weight = torch.nn.Parameter(offset + spread * drawn)
    stored = StoredNumbers(module, kind, scales)
    stored.fit()
    with stored.stored_values():
        seen = stored.inner.weight.detach().clone()
    packed = stored.packed()
    whole = 2 if kind == "bfloat16" else BITS[kind] / 8
    assert packed["weight"].nbytes == ceil(whole * seen.numel())
    assert torch.equal(unpacked(packed, {"weight": kind}, stored.shapes())["weight"], seen)
    if spread == 0 and kind != "bfloat16":
        assert torch.allclose(seen, module.weight.detach(), rtol=1e-6)


@pytest.mark.parametrize("stored", ["bfloat16", "uint2"])
def test_a_run_goes_on_to_the_same_bits(stored: str, tmp_path: Path) -> None:
    def loop(folder: str) -> OuterLoop:
        return OuterLoop(stored_run(stored), tmp_path / folder)

    def images(run: OuterLoop) -> Tensor:
        return run.result.synthetic.all().images.detach()

    whole = loop("a")
    first = loop("b")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    start = images(whole).clone()
    whole.run()
    first.run(stop=lambda: first.step >= 2)
    state = copy.deepcopy(first.state_dict())
    second = loop("b")
    second.load_state_dict(state)
    second.run()
    assert torch.equal(images(whole), images(second))
    assert not torch.equal(images(whole), start)


def test_codes_of_stored_numbers_are_the_same_codes() -> None:
    values = torch.randn(1, 3, 20, 23, generator=torch.Generator().manual_seed(1))
    for bits in BITS.values():
        scale = fit(values, bits, 1)
        once = codes(values, scale, bits)
        assert torch.equal(codes(quantised(values, scale, bits), scale, bits), once)


def test_a_small_file_of_other_numbers_is_found(tmp_path: Path) -> None:
    """Few bits are no claim about images that are not made of them: a run that has both files."""
    shutil.copytree(DECODED, tmp_path, dirs_exist_ok=True)
    file, listed = tmp_path / "stored.safetensors", tmp_path / "manifest.json"
    tensors, metadata = read_tensors(file)
    tensors["data.colours"] = tensors["data.colours"].flip(0)
    digest = write_tensors(file, tensors, metadata)
    record = json.loads(listed.read_text())
    record["files"][file.name] = digest
    listed.write_text(json.dumps(record))
    failed = {check.name: check.found for check in verify(tmp_path) if not check.passed}
    assert failed == {"storage": "stored.safetensors has other numbers than distilled.safetensors"}

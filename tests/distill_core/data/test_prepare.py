from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.config.sections import DataOptions
from distill_core.contracts.data import DataSpec, RawData, RealData, Split
from distill_core.contracts.streams import seeded
from distill_core.contracts.whitening import KINDS
from distill_core.data import whitening
from distill_core.data.identity import fingerprint
from distill_core.data.prepare import (
    check_class_names,
    check_raw,
    held_out,
    prepare,
)
from registry import InputError

SPEC = DataSpec("made", ("cat", "dog", "emu"), (2, 4, 5), ("flip", "rotate"))
CPU = torch.device("cpu")


def _raw(per_class: int = 10) -> RawData:
    """Every image is filled with its own number, so that it can be recognised."""
    labels = torch.arange(3).repeat(per_class)
    numbers = torch.arange(len(labels), dtype=torch.uint8)
    images = numbers[:, None, None, None].repeat(1, 2, 4, 5)
    return RawData(SPEC, images, labels, images[:7] + 100, labels[:7])


def _numbers(split: Split) -> list[int]:
    return (split.images[:, 0, 0, 0] * 255).round().int().tolist()


def _prepare(raw: RawData, seed: int = 0, **options: Any) -> RealData:
    return prepare(raw, DataOptions(**options), seed=seed, device=CPU)


def test_preparing_splits_without_losing_or_repeating_an_image() -> None:
    raw = _raw()
    real = _prepare(raw, whitening="none", validation=0.2)
    train, validation = _numbers(real.train), _numbers(real.validation)
    assert sorted(train + validation) == list(range(30))
    assert real.validation.labels.bincount().tolist() == [2, 2, 2]
    assert [number % 3 for number in train] == real.train.labels.tolist()
    assert [number % 3 for number in validation] == real.validation.labels.tolist()
    assert _numbers(real.test) == list(range(100, 107))
    assert len(real.train) == 24
    assert real.train.images.dtype == torch.float32


def test_the_split_follows_the_seed_and_nothing_else() -> None:
    raw = _raw()
    torch.manual_seed(1)
    first = _numbers(_prepare(raw, whitening="none").validation)
    torch.manual_seed(2)
    other = _prepare(raw, whitening="standardise")
    assert torch.equal(other.validation.labels, raw.train_labels[first])
    assert _numbers(_prepare(raw, whitening="none").validation) == first
    seeds = {tuple(_numbers(_prepare(raw, seed, whitening="none").validation)) for seed in range(5)}
    assert len(seeds) > 1


def test_whitening_sees_the_training_split_alone() -> None:
    real = _prepare(_raw(), whitening="standardise", validation=0.5)
    assert real.train.images.mean().item() == pytest.approx(0, abs=1e-5)
    assert real.train.images.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    changed = dataclasses.replace(_raw(), test_images=torch.zeros(7, 2, 4, 5, dtype=torch.uint8))
    again = _prepare(changed, whitening="standardise", validation=0.5)
    assert torch.equal(again.train.images, real.train.images)
    pixels = real.whitening.invert(real.test.images)
    assert (pixels * 255).round().unique().tolist() == list(range(100, 107))


def test_no_validation_split_is_possible() -> None:
    real = _prepare(_raw(), validation=0)
    assert len(real.validation) == 0
    assert real.validation.images.shape == (0, 2, 4, 5)


def test_one_image_of_a_class_stays_in_training() -> None:
    real = _prepare(_raw(per_class=1), validation=0.9)
    assert real.train.labels.tolist() == [0, 1, 2]


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.floats(0, 0.99),
    st.integers(0, 3),
    st.integers(0, 2**31),
)
def test_the_same_fraction_of_every_class_is_held_out(
    counts: list[int], fraction: float, at_least: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    held = held_out(labels, fraction, generator=generator, at_least=at_least)
    for label, count in enumerate(counts):
        found = int(held[labels == label].sum())
        assert found <= count - 1
        assert abs(found - count * fraction) <= 0.5 or found in {at_least, count - 1}
        assert found >= min(at_least, count - 1)


def test_a_batch_has_no_image_twice() -> None:
    real = _prepare(_raw(), whitening="none", validation=0)
    generator = torch.Generator().manual_seed(0)
    images, labels = real.train.batch(20, generator=generator)
    numbers = (images[:, 0, 0, 0] * 255).round().int().tolist()
    assert len(set(numbers)) == 20
    assert [number % 3 for number in numbers] == labels.tolist()
    everything, _ = real.train.batch(30, generator=generator)
    assert everything is real.train.images
    again, _ = real.train.batch(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(images, again)


def test_the_fingerprint_follows_everything() -> None:
    raw, options = _raw(), DataOptions()
    base = fingerprint(raw, options, 0)
    assert fingerprint(_raw(), DataOptions(), 0) == base
    moved = raw.train_images.clone()
    moved[3, 1, 2, 3] += 1
    turned = raw.train_images.permute(0, 1, 3, 2).contiguous()
    variants = [
        fingerprint(raw, options, 1),
        fingerprint(raw, DataOptions(zca_strength=0.2), 0),
        fingerprint(dataclasses.replace(raw, train_images=moved), options, 0),
        fingerprint(dataclasses.replace(raw, train_images=turned), options, 0),
        fingerprint(dataclasses.replace(raw, test_labels=raw.test_labels.flip(0)), options, 0),
        fingerprint(
            dataclasses.replace(raw, spec=dataclasses.replace(SPEC, name="other")), options, 0
        ),
    ]
    assert len({base, *variants}) == 7
    assert _prepare(raw).fingerprint == base
    strided = raw.train_images.flip(0).flip(0).transpose(1, 2).contiguous().transpose(1, 2)
    assert fingerprint(dataclasses.replace(raw, train_images=strided), options, 0) == base


def _changed(**changes: Tensor | DataSpec) -> RawData:
    return dataclasses.replace(_raw(), **changes)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"train_images": torch.zeros(30, 2, 4, 5)}, r"training images \(30, 2, 4, 5\) of .*float"),
        ({"test_images": torch.zeros(7, 1, 4, 5, dtype=torch.uint8)}, r"test images \(7, 1, 4, 5"),
        ({"train_labels": torch.zeros(29, dtype=torch.int64)}, r"\(29,\) .* 30 training images"),
        ({"test_labels": torch.zeros(7)}, "test labels .*float32"),
        ({"test_labels": torch.tensor([0, 1, 2, 0, 1, 2, 3])}, "test labels from 0 to 3 but 3"),
        ({"test_labels": torch.tensor([0, 1, 2, 0, 1, 2, -1])}, "test labels from -1 to 2"),
        ({"train_labels": torch.tensor([0, 1] * 15)}, "no training images of: emu"),
        (
            {
                "test_images": torch.zeros(0, 2, 4, 5, dtype=torch.uint8),
                "test_labels": torch.zeros(0, dtype=torch.int64),
            },
            "no test images",
        ),
        (
            {"spec": dataclasses.replace(SPEC, augmentations=("flip", "swirl"))},
            "unknown augmentations: swirl",
        ),
        ({"spec": dataclasses.replace(SPEC, class_names=(0, 1, 2))}, "names that are no text"),
    ],
)
def test_data_that_breaks_the_contract_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what) as raised:
        check_raw(_changed(**changes))
    assert raised.value.what.startswith("dataset 'made'")
    assert raised.value.expected
    assert raised.value.next


def test_many_classes_without_images_are_not_all_listed() -> None:
    names = tuple(f"name{k}" for k in range(50))
    spec = dataclasses.replace(SPEC, class_names=names)
    with pytest.raises(InputError, match="name12 and 37 more"):
        check_raw(_changed(spec=spec))


def test_a_test_set_may_lack_a_class() -> None:
    check_raw(_changed(test_labels=torch.zeros(7, dtype=torch.int64)))


@pytest.mark.parametrize("kind", list(KINDS))
def test_whitening_piece_by_piece_gives_the_same_bits(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (30, 2, 4, 5), generator=generator).to(torch.uint8)
    raw = dataclasses.replace(_raw(), train_images=images, test_images=images[:7])
    monkeypatch.setattr("distill_core.contracts.whitening.CHUNK_NUMBERS", 4 * images[0].numel())
    real = _prepare(raw, whitening=kind, validation=0.2)
    held = held_out(raw.train_labels, 0.2, generator=seeded(0, "validation split"))
    fitted = whitening.fit_whitening(kind, images[~held], strength=0.1)
    assert torch.equal(real.train.images, fitted.apply(images[~held]))
    assert torch.equal(real.validation.images, fitted.apply(images[held]))
    assert torch.equal(real.test.images, fitted.apply(images[:7]))
    assert real.train.labels.dtype == torch.int64


def test_half_precision_is_kept_and_full_precision_computed_with() -> None:
    full = _prepare(_raw(), validation=0.2)
    half = _prepare(_raw(), validation=0.2, storage="float16")
    for a, b in zip(
        (full.train, full.validation, full.test),
        (half.train, half.validation, half.test),
        strict=True,
    ):
        assert b.images.dtype == torch.float16
        assert torch.equal(b.images, a.images.half())
        for size in (2, 99):
            x, y = a.batch(size, generator=torch.Generator().manual_seed(0))
            found, labels = b.batch(size, generator=torch.Generator().manual_seed(0))
            assert found.dtype == b.take(slice(0, 1)).dtype == torch.float32
            torch.testing.assert_close(found, x, atol=0, rtol=5e-4)
            assert torch.equal(labels, y)
    assert full.fingerprint != half.fingerprint


def test_double_precision_is_left_alone() -> None:
    split = Split(torch.ones(3, 2, 4, 5).double(), torch.arange(3))
    assert split.batch(2, generator=torch.Generator())[0].dtype == torch.float64


def test_fingerprints_from_before_there_was_a_choice_of_storage_hold() -> None:
    """Artefacts that exist must still be recognised."""
    raw, options = _raw(), DataOptions()
    old = options.model_dump_json().replace('"storage":"auto",', "")
    assert old == '{"whitening":"standardise","zca_strength":0.1,"validation":0.1}'
    # As version 0.1 printed it, written out: a field that comes later must not change it.
    spec = "DataSpec(name='made', class_names=('cat', 'dog', 'emu'), image_shape=(2, 4, 5), "
    spec += "augmentations=('flip', 'rotate'))"
    digest = hashlib.sha256(f"{spec}{old}0".encode())
    for tensor in (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels):
        digest.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    assert fingerprint(raw, options, 0) == digest.hexdigest()


def test_a_held_out_part_is_that_of_a_plain_loop_over_classes():
    labels = torch.randint(7, (200,), generator=seeded(0, "labels"))
    expected, generator = torch.zeros(200, dtype=torch.bool), seeded(1, "split")
    for label in range(7):
        members = [i for i in range(200) if labels[i] == label]
        size = min(max(round(len(members) * 0.3), 1), len(members) - 1)
        for at in torch.randperm(len(members), generator=generator)[:size].tolist():
            expected[members[at]] = True
    found = held_out(labels, 0.3, generator=seeded(1, "split"), at_least=1)
    assert torch.equal(found, expected)


STRANGE = ["a\x1b[2Jb", "line\nbreak", "\u202egnp", "nul\x00", "\u2067x", "\u2028", "\udcff"]


@pytest.mark.parametrize("name", STRANGE)
def test_class_names_that_cannot_be_shown_are_refused(name):
    with pytest.raises(InputError, match="cannot be shown") as caught:
        check_class_names(["plain", name], "here")
    assert caught.value.what.isprintable()


def test_class_names_of_any_script_are_fine():
    joined = ["\u06a9\u062a\u0627\u0628\u200c\u062e\u0627\u0646\u0647", "👩\u200d🔬"]
    names = ["été", "猫", "<b>cat & dog</b>", "a b_c-d", "🐈", "全角\u3000空白", *joined]
    check_class_names(names, "here")


def test_more_classes_than_tables_of_classes_can_hold_are_refused():
    with pytest.raises(InputError, match="100000 classes"):
        check_class_names([str(k) for k in range(100_000)], "here")

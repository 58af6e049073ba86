from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill_core.contracts.whitening import KINDS, Whitening
from distill_core.data import whitening as module
from distill_core.data.whitening import fit_whitening
from distill_core.system.cached_tensors import keep_tensors
from distill_core.system.files import read_tensors, write_tensors
from registry import InputError, UnknownNameError

SHAPE = (3, 4, 4)


def _images(count: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Tensor:
    """Random images whose neighbouring pixels are alike, so that there is something to whiten."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, *shape, generator=generator)
    smooth = (noise + noise.roll(1, 2) + noise.roll(1, 3) + noise[:, :1]) / 4
    return (smooth * 255).to(torch.uint8)


def _flat(images: Tensor) -> np.ndarray:
    return images.double().flatten(1).numpy() / 255


def _inverse_root(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.inv(scipy.linalg.sqrtm(matrix).real)


def test_none_scales_to_one() -> None:
    images = _images(5)
    made = fit_whitening("none", images, strength=0.1)
    assert torch.equal(made.apply(images), images.float() / 255)
    assert made.tensors() == {}
    assert made.invert(torch.tensor([[[[-0.5, 0.5, 1.5]]]])).flatten().tolist() == [0, 0.5, 1]


def test_standardise_agrees_with_numpy() -> None:
    images = _images(40)
    numbers = images.double().numpy() / 255
    mean, std = numbers.mean((0, 2, 3)), numbers.std((0, 2, 3))
    made = fit_whitening("standardise", images, strength=0.1)
    np.testing.assert_allclose(made.tensors()["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(made.tensors()["std"], std, rtol=1e-6)
    expected = (numbers - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(made.apply(images), expected, atol=1e-5)


def test_standardise_turns_a_constant_channel_to_zero() -> None:
    images = _images(10)
    images[:, 1] = 77
    made = fit_whitening("standardise", images, strength=0.1)
    assert made.apply(images)[:, 1].abs().max() < 1e-6
    assert made.apply(images)[:, 0].std() == pytest.approx(1, abs=0.01)


def test_zca_agrees_with_brute_force() -> None:
    """Variant A: own mean and norm of each image, uncentred covariance, relative strength."""
    images, strength = _images(60), 0.1
    rows = []
    for row in _flat(images):
        centred = row - row.mean()
        rows.append(centred / np.sqrt((centred**2).sum()))
    data = np.stack(rows)
    covariance = sum(np.outer(row, row) for row in rows) / len(rows)
    regulariser = strength * np.trace(covariance) / covariance.shape[0]
    matrix = _inverse_root(covariance + regulariser * np.eye(len(covariance)))
    made = fit_whitening("zca", images, strength=strength)
    np.testing.assert_allclose(made.tensors()["matrix"], matrix, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.apply(images).flatten(1), data @ matrix, atol=1e-5)


def test_zca_ignores_brightness_and_contrast_of_an_image() -> None:
    made = fit_whitening("zca", _images(60), strength=0.1)
    pixels = _images(5, seed=1).double() / 255
    darker = 0.1 + 0.3 * pixels
    torch.testing.assert_close(made.apply(pixels), made.apply(darker), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("level", [0, 85, 255])
def test_zca_turns_constant_images_to_zero(level: int) -> None:
    images = _images(30)
    images[3] = level
    made = fit_whitening("zca", images, strength=0.1)
    whitened = made.apply(images)
    assert whitened[3].abs().max() < 1e-4
    assert made.apply(images.float() / 255)[3].abs().max() < 1e-4
    assert torch.isfinite(made.invert(whitened)).all()
    constant = fit_whitening("zca", images[3:4].expand(4, -1, -1, -1), strength=0.1)
    assert constant.apply(images[3:4]).abs().max() < 1e-4


def test_zca_pictures_are_stretched() -> None:
    images = _images(60)
    made = fit_whitening("zca", images, strength=0.1)
    flat = images.float().flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    expected = ((flat - low) / (high - low)).reshape(images.shape)
    torch.testing.assert_close(made.invert(made.apply(images)), expected, atol=1e-4, rtol=0)


def test_zca_kornia_leaves_the_covariance_of_the_closed_form() -> None:
    """Variant B: eigenvalues S become S / (S + strength), with the eigenvectors unchanged."""
    images, strength = _images(200), 0.1
    data = _flat(images)
    before = np.cov(data, rowvar=False)
    made = fit_whitening("zca_kornia", images, strength=strength)
    whitened = made.apply(images).double().flatten(1).numpy()
    expected = before @ np.linalg.inv(before + strength * np.eye(len(before)))
    np.testing.assert_allclose(np.cov(whitened, rowvar=False), expected, atol=1e-5)
    np.testing.assert_allclose(whitened.mean(0), 0, atol=1e-5)
    spectrum = np.linalg.eigvalsh(before)
    after = np.linalg.eigvalsh(np.cov(whitened, rowvar=False))
    np.testing.assert_allclose(after, spectrum / (spectrum + strength), atol=1e-5)


def test_zca_frepo_agrees_with_brute_force() -> None:
    """Variant C: channels standardised, the mean image removed, strength of the mean eigenvalue."""
    images, strength = _images(60), 0.1
    images[:, 1] //= 3  # channels of different deviations
    pixels = images.double().numpy() / 255
    pixels = (pixels - pixels.mean((0, 2, 3), keepdims=True)) / pixels.std((0, 2, 3), keepdims=True)
    data = pixels.reshape(len(images), -1)
    data -= data.mean(0)
    covariance = data.T @ data / len(data)
    regulariser = strength * np.trace(covariance) / len(covariance)
    matrix = _inverse_root(covariance + regulariser * np.eye(len(covariance)))
    made = fit_whitening("zca_frepo", images, strength=strength)
    np.testing.assert_allclose(made.tensors()["matrix"], matrix, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.apply(images).flatten(1), data @ matrix, atol=1e-4)


@pytest.mark.parametrize("kind", ["zca_kornia", "zca_frepo"])
def test_zca_without_a_norm_gives_the_images_as_pictures(kind: str) -> None:
    images = _images(100)
    made = fit_whitening(kind, images, strength=0.1)
    pictures = made.invert(made.apply(images))
    torch.testing.assert_close(pictures, images.float() / 255, atol=1e-4, rtol=0)
    assert made.invert(torch.full((1, *SHAPE), 1e3)).max() == 1


def test_fewer_images_than_numbers_are_enough() -> None:
    images = _images(6)
    for kind in ("zca", "zca_kornia", "zca_frepo"):
        assert torch.isfinite(fit_whitening(kind, images, strength=0.1).apply(images)).all()
    single = fit_whitening("zca_kornia", images[:1], strength=0.1)
    assert single.apply(images[:1]).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_do_not_change_anything(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _images(23)
    whole = fit_whitening(kind, images, strength=0.1)
    expected = whole.apply(images)
    picture = whole.invert(expected)
    monkeypatch.setattr("distill_core.contracts.whitening.CHUNK_NUMBERS", 5 * images[0].numel())
    monkeypatch.setenv("DISTILL_CACHE", f"{module.cache_dir()}-other")
    parts = fit_whitening(kind, images, strength=0.1)
    torch.testing.assert_close(parts.apply(images), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts.invert(expected), picture, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_and_fractions_and_single_images_agree(kind: str) -> None:
    images = _images(20)
    made = fit_whitening(kind, images, strength=0.1)
    whitened = made.apply(images)
    assert whitened.dtype == torch.float32
    torch.testing.assert_close(whitened, made.apply(images.double() / 255), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whitened[7:8], made.apply(images[7:8]), atol=1e-5, rtol=1e-5)
    assert made.apply(images[:0]).shape == (0, *SHAPE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whitening_can_be_stored(kind: str) -> None:
    images = _images(20)
    made = fit_whitening(kind, images, strength=0.1)
    again = Whitening.from_tensors(kind, made.tensors())
    assert set(made.tensors()) == set(KINDS[kind])
    assert torch.equal(made.apply(images), again.apply(images))
    assert torch.equal(made.invert(images / 255), again.invert(images / 255))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 30), st.integers(0, 99))
def test_standardise_can_be_undone(c: int, h: int, count: int, seed: int) -> None:
    images = _images(count, (c, h, h), seed)
    made = fit_whitening("standardise", images, strength=0.1)
    pictures = made.invert(made.apply(images))
    torch.testing.assert_close(pictures, images.float() / 255, atol=1e-6, rtol=0)


def _fail(*arguments: object) -> None:
    raise AssertionError("a cached whitening was computed again")


@pytest.mark.parametrize("kind", ["zca", "zca_kornia", "zca_frepo"])
def test_the_matrix_is_cached(kind: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _images(30)
    made = fit_whitening(kind, images, strength=0.1)
    assert len(list((own_cache / "whitening").iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(torch.linalg, "eigh", _fail)
        again = fit_whitening(kind, images.clone(), strength=0.1)
        assert torch.equal(made.apply(images), again.apply(images))
        for other in ({"strength": 0.2}, {"images": _images(30, seed=1)}):
            with pytest.raises(AssertionError, match="computed again"):
                fit_whitening(kind, **{"images": images, "strength": 0.1, **other})


def test_a_damaged_cache_is_made_again(own_cache: Path) -> None:
    images = _images(30)
    made = fit_whitening("zca", images, strength=0.1)
    (file,) = (own_cache / "whitening").iterdir()
    good = file.read_bytes()
    file.write_bytes(good[:-7])
    again = fit_whitening("zca", images, strength=0.1)
    assert torch.equal(made.apply(images), again.apply(images))
    assert file.read_bytes() == good


@pytest.mark.parametrize("kind", ["zca", "zca_kornia", "zca_frepo"])
@pytest.mark.parametrize("wrong", ["shape", "finite", "other images", "no digest"])
def test_what_is_not_the_matrix_is_made_again(
    kind: str, wrong: str, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = _images(30)
    made = fit_whitening(kind, images, strength=0.1)
    (file,) = (own_cache / "whitening").iterdir()
    good = file.read_bytes()
    tensors, said = read_tensors(file)
    if wrong == "shape":
        keep_tensors(file, {**tensors, "matrix": torch.eye(3)}, without_digest(said))
    elif wrong == "finite":
        write_tensors(file, {**tensors, "matrix": 2 * tensors["matrix"]}, said)
    elif wrong == "no digest":
        write_tensors(file, tensors, without_digest(said))
    else:
        fit_whitening(kind, _images(30, seed=1), strength=0.1)
        (other,) = {*(own_cache / "whitening").iterdir()} - {file}
        file.write_bytes(other.read_bytes())
    again = fit_whitening(kind, images, strength=0.1)
    assert torch.equal(made.apply(images), again.apply(images))
    assert file.read_bytes() == good
    (line,) = caplog.messages
    assert str(file) in line
    assert line.endswith("it is made anew")


def without_digest(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name != "sha256"}


def test_what_is_no_whitening_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no whitening named 'pca'") as raised:
        fit_whitening("pca", _images(3), strength=0.1)
    assert "zca_kornia" in raised.value.expected
    assert "-o data.whitening=NAME" in raised.value.next
    with pytest.raises(InputError, match="'zca' has the tensors: mean"):
        Whitening.from_tensors("zca", {"mean": torch.zeros(3)})
    with pytest.raises(InputError, match="no whitening 'pca'"):
        Whitening.from_tensors("pca", {})

"""The same files through Python, from a folder, and through the transform are the same pixels."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset
from torchvision.datasets import ImageFolder

from distill_core.artefact.distilled import ImageTransform
from distill_core.builtin.datasets.imagefolder import ImageFolder as OwnFolder
from distill_core.builtin.datasets.options import ImageFolderOptions
from distill_core.contracts.data import RawData
from distill_core.contracts.whitening import Whitening
from distill_core.data.in_memory import raw_data
from distill_core.data.picture_files import PictureLoader
from registry import InputError

RED = (250, 10, 20)
SIDE = 8


def _half(mode: str, left: Any, right: Any) -> Image.Image:
    """A picture whose upper half is of one colour, and the lower of another."""
    image = Image.new(mode, (SIDE, SIDE), right)
    image.paste(left, (0, 0, SIDE, SIDE // 2))
    return image


def _palette() -> Image.Image:
    return _half("RGB", RED, (0, 90, 200)).quantize(4)


def _turned() -> Image.Image:
    image = _half("RGB", RED, (0, 0, 0))
    image.getexif()[0x0112] = 3  # upside down
    return image


def _clear_palette() -> Image.Image:
    image = _half("P", 0, 1)
    image.putpalette([0, 0, 0, *RED])
    image.info["transparency"] = 0
    return image


def _deep(dtype: Any) -> Image.Image:
    values = np.repeat(np.array([[257 * 51], [65535]]), SIDE, 1).repeat(SIDE // 2, 0)
    return Image.fromarray(values.astype(dtype))


MODES: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "upside down": (_turned, "png"),
    "palette": (_palette, "png"),
    "palette with a clear colour": (_clear_palette, "png"),
    "LA": (lambda: _half("LA", (77, 0), (77, 255)), "png"),
    "RGBA": (lambda: _half("RGBA", (*RED, 0), (*RED, 255)), "png"),
    "CMYK": (lambda: _half("CMYK", (0, 0, 0, 100), (0, 200, 0, 0)), "tif"),
    "1 bit": (lambda: _half("1", 1, 0), "png"),
    "16 bits": (lambda: _deep(np.uint16), "png"),
    "32 bits": (lambda: _deep(np.int32), "tif"),
    "floating point": (lambda: _half("F", 0.25, 1.0), "tif"),
}


def _write(path: Path, image: Image.Image, ending: str) -> Path:
    """Two classes of two pictures, one of them plain."""
    for name, each in (("a", image), ("b", _half("L", 10, 200))):
        (path / name).mkdir(parents=True)
        for k in range(2):
            exif = {"exif": each.getexif()} if each.getexif() else {}
            each.save(path / name / f"{k}.{ending if name == 'a' else 'png'}", **exif)
    return path


def _all(raw: RawData) -> torch.Tensor:
    """Every image, in colour, in the order of classes: two of each class, one of them tested."""
    train, test = raw.train_images, raw.test_images
    images = torch.stack([train[0], test[0], train[1], test[1]])
    return images if images.shape[1] == 3 else torch.cat([images] * 3, 1)


@pytest.mark.parametrize("kind", MODES)
def test_every_way_in_means_the_same(kind: str, tmp_path: Path) -> None:
    make, ending = MODES[kind]
    path = _write(tmp_path, make(), ending)
    folder = OwnFolder(ImageFolderOptions(path=path, size=SIDE)).load()
    opened = [
        (Image.open(file), label)
        for label, name in enumerate("ab")
        for file in sorted((path / name).iterdir())
    ]
    items = raw_data(opened)
    assert items.spec.image_shape == folder.spec.image_shape
    assert torch.equal(items.train_images, folder.train_images)
    assert torch.equal(items.test_images, folder.test_images)
    listed = raw_data(([image for image, _ in opened], [label for _, label in opened]))
    assert torch.equal(listed.train_images, folder.train_images)

    expected = _all(folder)
    assert torch.equal(_all(raw_data(ImageFolder(str(path)))), expected)
    transform = ImageTransform((3, SIDE, SIDE), Whitening("none"))
    loader = PictureLoader((3, SIDE, SIDE))
    test = ImageFolder(str(path), loader=loader, transform=transform)
    given = torch.stack([image for image, _ in test])
    assert torch.equal((given * 255).round().to(torch.uint8), expected)
    direct = torch.stack([transform(image) for image, _ in opened])
    assert torch.equal(direct, given)


def test_a_loader_reads_as_the_folder_does_where_it_scales(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 256, (40, 61, 3), dtype=np.uint8)
    image = Image.fromarray(numbers).resize((610, 400))
    path = _write(tmp_path, image, "jpg")
    raw = OwnFolder(ImageFolderOptions(path=path, size=SIDE)).load()
    loader = pickle.loads(pickle.dumps(PictureLoader(raw.spec.image_shape)))
    assert np.array_equal(
        np.asarray(loader(path / "a/0.jpg")), raw.train_images[0].permute(1, 2, 0)
    )


def test_the_users_own_loader_and_transform_are_kept(tmp_path: Path) -> None:
    path = _write(tmp_path, _turned(), "png")
    plain = ImageFolder(str(path), loader=lambda _: Image.new("RGB", (4, 4), RED))
    assert raw_data(plain).train_images[0, :, 0, 0].tolist() == list(RED)
    cut = ImageFolder(str(path), transform=lambda image: image.crop((0, 0, SIDE, SIDE // 2)))
    # Upright before it is cut: the upper half is black.
    assert raw_data(cut).train_images[0].max() == 0


@pytest.mark.parametrize("wrap", [lambda d: Subset(d, range(4)), lambda d: ConcatDataset([d, d])])
def test_parts_of_an_image_folder_are_read_right_too(
    tmp_path: Path, wrap: Callable[[Dataset[Any]], Dataset[Any]]
) -> None:
    path = _write(tmp_path, _deep(np.uint16), "png")
    found = raw_data(wrap(ImageFolder(str(path))))
    assert found.train_images[0, :, 0, 0].tolist() == [51, 51, 51]


def test_grey_and_colour_of_two_parts_meet_in_colour() -> None:
    grey, red = Image.new("L", (4, 4), 7), Image.new("RGB", (4, 4), RED)
    raw = raw_data([(grey, 0), (grey, 1)], [(red, 0), (grey, 1)])
    assert raw.spec.image_shape == (3, 4, 4)
    assert raw.train_images[0, :, 0, 0].tolist() == [7, 7, 7]
    assert raw.test_images[0, :, 0, 0].tolist() == list(RED)


def test_little_depth_is_noted_through_python_too(tmp_path: Path) -> None:
    dark = Image.fromarray(np.full((4, 4), 1023, np.uint16))
    (line,) = raw_data([(dark, 0), (dark, 1)] * 2).notes[:1]
    assert "1023 of 65535" in line
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        dark.save(tmp_path / name)
    assert raw_data(ImageFolder(str(tmp_path))).notes[0] == line
    (line,) = raw_data((np.full((4, 1, 4, 4), 0.01), [0, 1, 0, 1])).notes
    assert "the training images are floating point" in line


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path, _palette(), "png")
    whole = (path / "a/1.png").read_bytes()
    (path / "a/1.png").write_bytes(whole[:-30])
    with pytest.raises(InputError, match=r"a/1\.png cannot be read as an image"):
        raw_data(ImageFolder(str(path)))
    with (
        Image.open(path / "a/1.png") as half,
        pytest.raises(InputError, match="the image 0 of the training data cannot be read"),
    ):
        raw_data([(half, 0), (Image.new("L", (8, 8)), 1)])
    for missing in ("a/1.png", "a/9.png"):
        with pytest.raises(InputError, match=rf"{missing} cannot be read as an image"):
            PictureLoader((3, 8, 8))(path / missing)


def test_single_pictures_warn_of_what_is_lost(tmp_path: Path) -> None:
    transform = ImageTransform((1, 8, 8), Whitening("none"))
    wide = Image.new("L", (400, 10))
    wide.save(tmp_path / "wide.png")
    for call in (
        lambda: transform(wide),
        lambda: transform(torch.zeros(1, 10, 400)),
        lambda: PictureLoader((1, 8, 8))(tmp_path / "wide.png"),
    ):
        with pytest.warns(UserWarning, match="98 % of it") as caught:
            call()
        assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="1023 of 65535"):
        transform(Image.fromarray(np.full((8, 8), 1023, np.uint16)))


def test_a_loader_needs_one_or_three_channels() -> None:
    with pytest.raises(InputError, match="images of 2 channels"):
        PictureLoader((2, 8, 8))("x.png")


class _Own(Dataset[Any]):
    """Four small images of two classes, of which one may fail or have an odd label."""

    def __init__(self, odd: Any) -> None:
        self.odd = odd

    def __len__(self) -> int:
        return 4

    def __getitem__(self, k: int) -> tuple[torch.Tensor, Any]:
        if k == 2 and isinstance(self.odd, Exception):
            raise self.odd
        return torch.zeros(3, 8, 8, dtype=torch.uint8), self.odd if k == 2 else k % 2


@pytest.mark.parametrize(
    "error", [ValueError("bad bytes"), KeyError("x"), InputError("no file.", next="look.")]
)
@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: Subset(data, range(4))])
def test_an_item_that_fails_is_named(error: Exception, wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(InputError, match="item 2 of the training data cannot be read: ") as raised:
        raw_data(wrap(_Own(error)))
    assert raised.value.next
    assert raised.value.__cause__ is error
    with pytest.raises(InputError, match="item 2 of the test data"):
        raw_data(_Own(0), wrap(_Own(error)))


def test_out_of_memory_is_no_fault_of_an_item() -> None:
    with pytest.raises(MemoryError):
        raw_data(_Own(MemoryError()))


@pytest.mark.parametrize("odd", ["cat", None, -1])
def test_a_label_that_is_no_class_is_named(odd: object) -> None:
    images, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), [0, 1, odd, 1]
    for data in (_Own(odd), (images, labels), (images, np.array(labels, dtype=object))):
        with pytest.raises(InputError, match=f"label 2 of the training data is {odd!r}") as raised:
            raw_data(data)
        assert "classes" in raised.value.next


def test_labels_that_are_text_can_be_numbered_as_the_error_says() -> None:
    images, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), np.array(["cat", "dog"] * 2)
    with pytest.raises(InputError, match="labels are text, as 'cat'") as raised:
        raw_data((images, labels))
    assert "names, labels = numpy.unique(labels, return_inverse=True)" in raised.value.next
    names, numbers = np.unique(labels, return_inverse=True)
    assert raw_data((images, numbers), class_names=names).spec.class_names == ("cat", "dog")


def test_transparency_in_arrays_is_noted() -> None:
    for channels, lines in ((1, 0), (2, 1), (3, 0), (4, 1)):
        raw = raw_data((torch.zeros(4, channels, 8, 8, dtype=torch.uint8), [0, 1, 0, 1]))
        assert len(raw.notes) == lines
    assert "if the last is transparency, pass PIL images" in raw.notes[0]


@pytest.mark.parametrize("kind", [np.uint16, np.int64, np.complex64])
def test_numbers_that_are_no_pixels_are_named(kind: type) -> None:
    with pytest.raises(InputError, match=rf"training images are torch\.{kind.__name__}"):
        raw_data((np.full((4, 3, 8, 8), 999, kind), [0, 1, 0, 1]))

"""Settings of the datasets, apart from them so that checking them imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from distill_core.plugin import Options, about

Colour = Literal["auto", "grey", "rgb"]
Fit = Literal["crop", "squash"]
Operation = Literal["flip", "rotate", "scale", "crop", "cutout", "color"]


def _fit(default: Fit, **of: str) -> Any:
    return Field(
        default,
        description="how pictures that are not square are fitted: crop scales the shorter side and "
        "cuts out the centre, squash scales both sides",
        **about(**of),
    )


def _own_size() -> Any:
    return Field(
        None,
        ge=4,
        le=1024,
        description="height and width; default: the shorter side of the first image",
        **about("pixels"),
    )


def _colour() -> Any:
    return Field("auto", description="auto is grey if every image is grey, else rgb")


def _test_fraction(whole: str) -> Any:
    what = f"part of every class for testing, if there is no test {whole}"
    return Field(0.2, gt=0, lt=1, description=what)


def _augmentations() -> Any:
    return Field(
        ("flip", "rotate", "scale", "crop", "cutout", "color"),
        description="operations that keep the labels; leave out flip for writing, color where "
        "colour decides",
        **about(advanced="yes"),
    )


class DigitsOptions(Options):
    """`digits` has no settings."""


class ImageFolderOptions(Options):
    """Settings of `imagefolder`."""

    path: Path = Field(description="folder or .zip with train/CLASS/*, test/CLASS/* or CLASS/*")
    folders: Literal["auto", "classes"] = Field(
        "auto",
        description="the folders in it: each a class; or what their names and contents say, where "
        "train and test are parts",
    )
    size: int | None = _own_size()
    fit: Fit = _fit("crop")
    colour: Colour = _colour()
    test_fraction: float = _test_fraction("folder")
    augmentations: tuple[Operation, ...] = _augmentations()


class ShardOptions(Options):
    """What `hf` and `webdataset` have in common."""

    path: Path
    image: str | None = None
    label: str | None = None
    names: Path | None = Field(
        None,
        description="text file with the name of a class on each line, in the order of the class "
        "numbers; default: the names in the data, or the numbers",
    )
    size: int | None = _own_size()
    fit: Fit = _fit("crop")
    colour: Colour = _colour()
    test_fraction: float = _test_fraction("part")
    augmentations: tuple[Operation, ...] = _augmentations()


class HfOptions(ShardOptions):
    """Settings of `hf`."""

    path: Path = Field(
        description="folder that save_to_disk of Hugging Face's datasets has written, or a folder "
        "of .parquet files as on the hub"
    )
    image: str | None = Field(
        None, description="column with the images; default: the only one that there is"
    )
    label: str | None = Field(
        None, description="column with the classes; default: the only one that there is"
    )


class WebDatasetOptions(ShardOptions):
    """Settings of `webdataset`."""

    path: Path = Field(description="folder of .tar shards, or one .tar")
    image: str | None = Field(
        None,
        description="ending of the members that are images, as jpg; default: any of a picture, "
        "which every item has once",
    )
    label: str | None = Field(
        None,
        description="ending of the members with the class, as cls, or json.NAME for a value in "
        "json; default: cls, or json.label where there is no cls",
    )


class ShapesOptions(Options):
    """Settings of `shapes`."""

    classes: int = Field(10, ge=2, le=10_000, description="number of classes", **about("classes"))
    size: int = Field(32, ge=8, le=64, description="height and width", **about("pixels"))
    train_per_class: int = Field(
        200, ge=1, description="training images of each class", **about("images")
    )
    test_per_class: int = Field(
        50, ge=1, description="test images of each class", **about("images")
    )
    seed: int = Field(0, ge=0, description="seed of the images, apart from the run's")


class TorchvisionOptions(Options):
    """Settings of the datasets that torchvision knows."""

    root: Path | None = Field(
        None, description="folder of torchvision's files; default: data in distill's cache"
    )
    download: bool = Field(
        False, description="download the files if they are not there", **about(place="yes")
    )


def _size(default: int) -> Any:
    return Field(
        default,
        ge=4,
        le=1024,
        description="height and width",
        **about("pixels", "PoDD, section 5.1"),
    )


CUB_FOLDER = "CUB_200_2011"


class Cub200Options(Options):
    """Settings of `cub200`."""

    root: Path | None = Field(
        None, description=f"the folder {CUB_FOLDER}, or a .zip of it; default: in distill's cache"
    )
    size: int = _size(32)
    fit: Fit = _fit("squash", source="squash: PoDD, published code", absent="crop")


TINY_FOLDER = "tiny-imagenet-200"


class TinyImagenetOptions(Options):
    """Settings of `tiny_imagenet`."""

    root: Path | None = Field(
        None, description=f"the folder {TINY_FOLDER}, or its .zip; default: in distill's cache"
    )
    size: int = _size(64)

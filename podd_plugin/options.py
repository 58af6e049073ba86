"""Settings of the plugin's components, apart from them so that checking imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from distill_core.plugin import GridShape, Options, about
from podd_plugin.poster_size import AREAS, BLOCKS, DEFAULT_IPC, decoded_area

if TYPE_CHECKING:
    from podd_plugin.clip_text import ClipModel

_BLOCKED = "frequencies|bases|gaussians"  # canvases of blocks
_CLIP = "similarity=auto|clip and similarity=clip or file=none"  # an auto with a file takes it


class PosterOptions(Options):
    """Settings of `poster`."""

    retired: ClassVar = {"init_scale": 1.0}

    size: GridShape | None = Field(
        None,
        description="stored height x width of each canvas, or decoded ones if it is not stored as "
        "pixels; default: the largest that the "
        f"budget allows, in the shape of the class grid (without --ipc: {DEFAULT_IPC} IPC)",
        **about("pixels", "PoDD, section 4.1"),
    )
    patches: GridShape | None = Field(
        None,
        description="rows x columns of patches on each canvas; they may repeat on a small one. "
        "Default: about 4 for each class and at least 96 in all, as most of the paper's "
        "(6x16 for 2x5 classes), 1.2 for each class for images below 28 pixels, no two in one "
        "place, and see density",
        **about("patches", "PoDD, section 5.1"),
    )
    density: Literal["passes", "published"] = Field(
        "passes",
        description="where patches is not set: passes: fewer patches, but at least one for each "
        "class, so that an inner loop sees each some 30 times, as the published long loops do; "
        "published: as many as the paper has, whatever the inner loop",
        **about(
            source="published: PoDD, section 5.1",
            absent="published",
            advanced="yes",
            needs="patches=none",
        ),
    )
    classes: GridShape | None = Field(
        None,
        description="rows x columns of the class grid; default: the most square one",
        **about("classes", "PoDD, section 4.2", advanced="yes"),
    )
    cyclic: bool = Field(
        False,
        description="patches go around the borders, so that all pixels are alike",
        **about(source="PoDD, section 6", advanced="yes"),
    )
    per_class: bool | None = Field(
        None,
        description="a poster for each class; default: above 1 IPC",
        **about(source="PoDD, section 6, figure 9"),
    )
    downsample: int = Field(
        1,
        ge=1,
        description="canvases are stored at this fraction of their height and width, and scaled "
        "up bilinearly before they are cut: at 2 the same pixels make a poster of 4 times the area",
        **about(source="IDC, Kim et al. 2022 (arXiv:2205.14959), for images"),
    )
    canvas: Literal["pixels", "frequencies", "bases", "lowrank", "gaussians"] = Field(
        "pixels",
        description="what is stored of canvases: their pixels; the lowest frequencies of every "
        "block; bases that all blocks share, and a mixture for every block; thin factors of "
        "every channel; or coloured Gaussians of every block",
        **about(
            source="frequencies: FreD, Shin et al. 2023 (arXiv:2311.08819), for images; "
            "bases: Deng and Russakovsky 2022 (arXiv:2206.02916), for images; "
            "gaussians: GSDD, Jiang et al. 2025 (arXiv:2509.26219), for images"
        ),
    )
    area: float | None = Field(
        None,
        ge=1,
        le=1000,
        description="how many times as many pixels a decoded canvas has as its numbers would "
        f"make; not with canvas pixels; default {AREAS['frequencies']:g}, with gaussians "
        f"{AREAS['gaussians']:g}, and less for small images",
        **about(advanced="yes", needs=f"canvas=lowrank|{_BLOCKED} and size=none"),
    )
    blocks: int | None = Field(
        None,
        ge=1,
        description="blocks on each side of a class cell; with canvas frequencies "
        f"(default {BLOCKS['frequencies']}), bases (default {BLOCKS['bases']}) and gaussians "
        "(default: blocks of the size of a patch)",
        **about("blocks", advanced="yes", needs=f"canvas={_BLOCKED}"),
    )
    init: Literal["noise", "paper", "blend", "real"] = Field(
        "noise",
        description="starting pixels: noise of the published code's scale, the paper's N(0, 1), "
        "the published code's cross-faded areas, or cross-faded real images",
        **about(source="PoDD, section 4.1; published code"),
    )

    def area_of(self, image_shape: tuple[int, ...]) -> float:
        """Return pixels of a canvas, in units of the pixels that its numbers would make."""
        if self.canvas == "pixels":
            return 1
        return decoded_area(self.canvas, image_shape) if self.area is None else self.area

    @property
    def follows_patches(self) -> bool:
        """Whether blocks are of the size of patches, however class cells lie."""
        return self.canvas == "gaussians" and self.blocks is None


class PoddlOptions(Options):
    """Settings of `poddl`."""

    mode: Literal["learned", "fixed"] = Field(
        "learned",
        description="learn a label for each class cell, or take the majority class",
        **about(source="PoDD, section 4.3", fixes_labels="fixed"),
    )
    pooling: Literal["area", "nearest"] | None = Field(
        None,
        description="learned: mean of the cells under a box by area, as in the paper, or the "
        "nearest cells alone, as in the published code, which gives sharper labels. Default: "
        "nearest where cells are a regular grid of which every one is nearest to some patch, else "
        "area",
        **about(source="PoDD, section 4.3; published code", needs="mode=learned"),
    )
    power: float = Field(
        1,
        gt=0,
        le=100,
        description="learned, by area, which another than 1 implies: areas are raised to this "
        "power before the mean. Above 1 labels are sharper, between the paper's and those of the "
        "largest cell alone; 1: the paper",
        **about(
            source="1: PoDD, section 4.3",
            advanced="yes",
            needs="mode=learned and pooling=area|none",
        ),
    )
    constraint: Literal["clip", "softmax"] = Field(
        "clip",
        description="learned: how a pooled row becomes a label: its numbers, none below 0, are "
        "divided by their sum; or the softmax of its numbers, which have no bound, divided by "
        "temperature",
        **about(source="clip: published code", advanced="yes", needs="mode=learned"),
    )
    temperature: float = Field(
        0.1,
        ge=1e-3,
        le=1000,
        description="labels are sharper at a lower one, and learn more slowly once they are sharp: "
        "with an algorithm whose outer optimizer is SGD take 0.2 or more",
        **about(advanced="yes", needs="constraint=softmax"),
    )
    start: float = Field(
        1,
        gt=0,
        le=1000,
        description="number of a cell's class at the start, beside zeros: above 1 labels start "
        "sharper",
        **about(advanced="yes", needs="constraint=softmax"),
    )
    grid: GridShape | None = Field(
        None,
        description="learned: rows x columns of labels on each canvas, as in the published code; "
        "a label starts as the class that owns most of its area, and a class that owns "
        "most of none starts without. Default: one label for each class cell",
        **about("labels", "published code", needs="mode=learned"),
    )
    regions: Literal["cells", "areas"] = Field(
        "cells",
        description="fixed: a class owns its cell, as in the paper, or an area of an image's "
        "size, overlapping others, as in the published code",
        **about(source="PoDD, section 4.3; published code", advanced="yes", needs="mode=fixed"),
    )


class SimilarityOptions(Options):
    """Where the distances between classes come from."""

    similarity: Literal["auto", "clip", "file", "image"] = Field(
        "auto",
        description="clip: class names through a CLIP text encoder (paper); file: embeddings "
        "from a file; image: class means of the training images, for names without meaning; "
        "auto: file if one is named, clip if its weights or embeddings are on this machine, else "
        "image",
        **about(source="PoDD, sections 4.2 and 6"),
    )
    file: Path | None = Field(
        None,
        description=".npz with embeddings (K, d) in label order, or in any order with names (K,)",
        **about(needs="similarity=auto|file"),
    )
    prompt: str = Field(
        "{}",
        description="text for a class, {} standing for its name; several, with | between them, are "
        "averaged",
        **about(source="Radford et al. 2021, section 3.1.4", advanced="yes", needs=_CLIP),
    )
    model: str = Field(
        "ViT-B-32-quickgelu",
        description="open_clip model",
        **about(source="published code", advanced="yes", needs=_CLIP),
    )
    pretrained: str = Field(
        "openai",
        description="open_clip's name of the weights, or a path as for weights",
        **about(source="published code", advanced="yes", needs=f"{_CLIP} and weights=none"),
    )
    weights: Path | None = Field(
        None,
        description="local weights instead: a .safetensors file, or a folder with "
        "open_clip_config.json and a .safetensors file",
        **about(advanced="yes", needs=_CLIP),
    )

    @field_validator("prompt")
    @classmethod
    def _has_place(cls, prompt: str) -> str:
        if not all("{}" in text for text in prompt.split("|")):
            raise ValueError("a text with {} where the class name goes")
        return prompt

    @property
    def prompts(self) -> list[str]:
        """The single texts of `prompt`."""
        return [text.strip() for text in self.prompt.split("|")]

    @property
    def clip(self) -> ClipModel:
        """The CLIP model."""
        from podd_plugin.clip_text import ClipModel

        return ClipModel.of(self.model, self.pretrained, self.weights)


Traversal = Literal["zigzag", "diagonal", "raster", "snake"]


class PocoOptions(SimilarityOptions):
    """Settings of `poco`."""

    traversal: Traversal = Field(
        "zigzag",
        description="order in which places are filled: zigzag along the diagonals as in JPEG "
        "(paper), every diagonal from bottom left to top right (published code), row by row, "
        "or row by row with every second one backwards",
        **about(source="PoDD, section 4.2; published code"),
    )


class QapOptions(SimilarityOptions):
    """Settings of `qap`."""

    restarts: int | None = Field(
        None,
        ge=0,
        description="random starts of the search; default: 10; fewer for more than 200 classes, "
        "whose starts take much longer: one from 600 on",
        **about("starts"),
    )


class PublishedOptions(Options):
    """Settings of `published`."""

    figure: Literal["auto", "fig7", "fig8"] = Field(
        "auto",
        description="Fig. 7, 10x10 for CIFAR-100, or Fig. 8, 2x5 for CIFAR-10; auto: the one "
        "with as many classes as the data",
        **about(source="PoDD, figures 7 and 8"),
    )

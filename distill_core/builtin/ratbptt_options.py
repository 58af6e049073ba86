"""Settings of RaT-BPTT, apart from it so that checking them imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from distill_core.plugin import OptionError, Options

CurriculumName = Literal["random", "fixed", "staged", "window", "none"]


class RatBpttOptions(Options):
    """Settings of `ratbptt`; the defaults are those of both papers on CIFAR-10."""

    window: int = Field(60, ge=1, description="inner steps that are differentiated")
    total: int = Field(200, ge=1, description="longest inner loop, steps")
    curriculum: CurriculumName = Field(
        "random",
        description="steps before the window: random; fixed (total - window); staged (more when "
        "the loss stalls); window (none, but a random length from window to total); none",
    )
    min_offset: int = Field(
        0, ge=0, description="fewest steps before the window, with curriculum random or staged"
    )
    epoch_steps: int = Field(
        1, ge=1, description="outer steps that share one draw of the curriculum"
    )
    patience: int = Field(
        600, ge=1, description="outer steps without a new low before a staged curriculum goes on"
    )
    inner_optimizer: Literal["adam", "sgd"] = Field("adam", description="inner optimizer")
    inner_lr: float = Field(1e-3, gt=0, description="learning rate of an inner step")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of inner SGD")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty of inner SGD (papers: 5e-4)")
    batch: int = Field(96, ge=1, description="synthetic images per inner step")
    balanced: bool = Field(
        False, description="draw items of rare classes more often; no effect on full batches"
    )
    real_batch: int = Field(5000, ge=1, description="real images per outer step")
    real_chunk: int = Field(
        500,
        ge=1,
        description="real images at a time; changes memory, not the result (but for batch norm, "
        "whose statistics are those of a chunk)",
    )
    pixel_lr: float = Field(1e-3, gt=0, description="learning rate of pixels, outer Adam")
    label_lr: float | None = Field(
        None, gt=0, description="learning rate of labels, outer Adam; default: pixel_lr"
    )
    augment: Literal["none", "flip_rotate", "dsa"] = Field(
        "flip_rotate", description="augmentation of synthetic and, drawn apart, of real images"
    )
    clip: bool = Field(True, description="clip the gradient of the pixels")
    label_clip: bool = Field(False, description="clip that of the labels, on its own")
    clip_factor: float = Field(2.0, gt=0, description="bound, times the average norm")
    clip_decay: float = Field(0.9, ge=0, lt=1, description="decay of the average norm")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.curriculum != "none" and self.window > self.total:
            raise OptionError(
                f"option algo.window = {self.window} is longer than algo.total = {self.total}.",
                expected="1 <= window <= total.",
                next="pass -o algo.window=60 (the default), or raise -o algo.total.",
            )
        if self.curriculum in {"random", "staged"} and self.min_offset > self.total - self.window:
            raise OptionError(
                f"option algo.min_offset = {self.min_offset} leaves no room for the window.",
                expected=f"0 <= min_offset <= total - window = {self.total - self.window}.",
                next="lower -o algo.min_offset, or raise -o algo.total.",
            )
        if self.inner_optimizer == "adam" and self.weight_decay:
            raise OptionError(
                f"option algo.weight_decay = {self.weight_decay:g} has no effect.",
                expected="algo.weight_decay = 0 with algo.inner_optimizer = adam.",
                next="drop it, or pass -o algo.inner_optimizer=sgd.",
            )
        return self

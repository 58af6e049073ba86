"""Settings of the backbones, apart from them so that checking them imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distill_core.plugin import Options, about

PUBLISHED_WIDTH, SMALL_WIDTH = 128, 32


class ConvNetOptions(Options):
    """Settings of `convnet`. Source: Zhao et al. 2021 (dataset condensation), used since."""

    width: int | None = Field(
        None,
        ge=1,
        description=f"channels of every convolution; default: {PUBLISHED_WIDTH} as in the papers, "
        f"{SMALL_WIDTH} for images below 28 pixels",
        **about("channels", "Zhao et al. 2021"),
    )
    growth: int = Field(
        1,
        ge=1,
        description="channels of a block for one of the block before it; with 2 width is that of "
        "the first",
        **about(
            "channels",
            "doubled by Zhou et al. 2022 (FRePo, arXiv:2206.00719)",
            advanced="yes",
            needs="depth!=1",
        ),
    )
    depth: int | None = Field(
        None,
        ge=1,
        description="blocks; default by the shorter side: 1 below 8 pixels, 2 below 24, "
        "3 below 64, 4 from 64",
        **about("blocks", "Zhao et al. 2021"),
    )
    norm: Literal["instance", "group", "batch", "layer", "none"] = Field(
        "instance",
        description="normalisation; instance is a group norm of one channel a group",
        **about(source="Zhao et al. 2021"),
    )
    pooling: Literal["avg", "max", "none"] = Field(
        "avg", description="2x2 pooling of stride 2", **about(source="Zhao et al. 2021")
    )
    activation: Literal["relu", "leakyrelu", "silu", "softplus"] = Field(
        "relu", description="non-linearity", **about(source="Zhao et al. 2021")
    )
    sharpness: float = Field(
        1.0,
        gt=0,
        description="of softplus, log(1 + exp(sharpness x)) / sharpness; ReLU at infinity",
        **about(
            source="60 in the code of Loo et al. 2023 (RCIG, arXiv:2302.06755)",
            advanced="yes",
            needs="activation=softplus",
        ),
    )
    init: Literal["uniform", "lecun"] = Field(
        "uniform",
        description="initial weights: uniform within 1/sqrt(fan in), as PyTorch's layers; lecun: "
        "normal of variance 1/fan in, cut at two deviations, and biases of 0",
        **about(source="lecun: code of Zhou et al. 2022 (FRePo, arXiv:2206.00719)", advanced="yes"),
    )


class TimmOptions(Options):
    """Settings of `timm`."""

    name: str = Field(
        "resnet10t",
        description="a model name of timm, for example resnet10t; also --backbone timm:NAME",
        **about(models="distill_core.builtin.backbones.timm_names:names"),
    )

"""The core's own options, by section: `-o data.*`, `-o engine.*` and `-o evaluate.*`.

Nothing heavy is imported here, as in `run_config.py`, which reads them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from distill_core.system.units import parse_size
from registry.options import Options, about


class DataOptions(Options):
    """How a dataset is prepared before a run: `-o data.FIELD=VALUE`."""

    whitening: Literal["none", "standardise", "zca", "zca_kornia", "zca_frepo"] = Field(
        "standardise",
        description="none; standardise each channel; zca as in RaT-BPTT and PoDD (per image "
        "normalised, relative strength); zca_kornia as in MTT (absolute strength); zca_frepo as in "
        "FRePo and RCIG (channels standardised, relative strength)",
        **about(source="RaT-BPTT, PoDD, MTT and FRePo, published code"),
    )
    zca_strength: float = Field(
        0.1,
        gt=0,
        description="regulariser of the ZCA variants",
        **about(
            source="RaT-BPTT, PoDD, MTT and FRePo, published code",
            advanced="yes",
            needs="whitening=zca|zca_kornia|zca_frepo",
        ),
    )
    storage: Literal["auto", "float32", "float16", "memmap"] = Field(
        "auto",
        description="how real images are kept: whitened in memory, as float32 or as float16 (half "
        "the memory, rounded to 3 digits); or as bytes on the disk, read and whitened batch by "
        "batch (memmap); auto: float32, or memmap where that does not fit into free memory; "
        "computations use float32 in any case",
        **about(advanced="yes"),
    )
    validation: float = Field(
        0.1, ge=0, lt=1, description="fraction of the training data kept for validation"
    )


class EvaluateOptions(Options):
    """How a result is judged: `-o evaluate.FIELD=VALUE`."""

    protocol: Literal["recipe", "podd", "rat", "dc", "mtt", "frepo"] = Field(
        "recipe",
        description="how networks are trained on the result: as the algorithm says (recipe), or "
        "by a published protocol",
    )
    nets: int = Field(
        8,
        ge=1,
        description="fresh networks for the final mean and deviation",
        **about("networks", "PoDD, section 5.1"),
    )
    steps: int | None = Field(
        None,
        ge=1,
        description="training steps of a network; default: what the protocol says",
        **about("steps"),
    )
    every: int = Field(
        0,
        ge=0,
        description="outer steps between evaluations on the validation split; 0: never",
        **about("outer steps"),
    )
    every_nets: int = Field(
        2,
        ge=1,
        description="networks for each of those evaluations",
        **about("networks", advanced="yes"),
    )
    select: Literal["last", "best"] = Field(
        "last", description="keep the last state, or the best one on the validation split"
    )
    backbones: tuple[str, ...] = Field(
        (),
        description="further networks that judge the result, each as --backbone names it, such as "
        "timm:resnet18; the controls are judged with each, too",
    )
    controls: bool = Field(
        True,
        description="also train on random real images of the same pixel budget and on all; and on "
        "as many bytes of real images, if numbers are decoded, of another type than float32, or "
        "budgeted in bytes",
    )
    full_nets: int = Field(
        1,
        ge=1,
        description="networks trained on the full training set",
        **about("networks", advanced="yes"),
    )
    full_steps: int = Field(
        2000, ge=1, description="steps on the full training set", **about("steps", advanced="yes")
    )


class EngineOptions(Options):
    """How hypergradients are computed: `-o engine.FIELD=VALUE`. Decides the cost, not the result,
    except for rounding, and for `real_chunk` with batch normalisation.

    Networks that are only trained and tested, as in judging, use the kernels and CUDA graphs
    wherever possible; the environment variables DISTILL_KERNELS=off and DISTILL_GRAPHS=off turn
    these off.
    """

    path: Literal["auto", "kernels", "autograd"] = Field(
        "auto",
        description="derivatives by the ConvNet kernels (published ConvNet; on the CPU with a C "
        "compiler, on CUDA with Triton), by autograd (any network, any device), or the faster one "
        "available",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="type of activations in the kernels; bfloat16 takes half the memory and is "
        "coarser, and no faster on the CPUs where it was measured",
        **about(advanced="yes"),
    )
    microbatch: int | None = Field(
        None,
        ge=1,
        description="images of an inner batch at a time; default: all",
        **about("images"),
    )
    real_chunk: int | None = Field(
        None,
        ge=1,
        description="most images of the real batch at a time, in equal chunks; statistics of batch "
        "normalisation are those of a chunk; default: 250, on CUDA up to 1000, as many as fit "
        "its memory, and 250 with batch normalisation",
        **about("images", advanced="yes"),
    )
    activation_cache: str = Field(
        "auto",
        description="memory for activations of differentiated steps, so the backward pass need "
        "not recompute them: an amount, or none; auto: 256MiB, on CUDA half of the free memory, "
        "at most 16GiB; or what max_memory leaves room for",
        **about(advanced="yes"),
    )
    graphs: Literal["auto", "none"] = Field(
        "auto",
        description="CUDA graphs: the operations of an inner step are captured once and replayed, "
        "which saves launching each one; auto: on CUDA if the network allows it; none: launch each "
        "one",
        **about(advanced="yes"),
    )
    max_memory: str | None = Field(
        None,
        description="memory that a process may use on its device, for example 4GiB; on CUDA this "
        "includes the driver's part; smaller microbatch and real_chunk are chosen if needed (also "
        "--max-memory)",
    )

    @field_validator("activation_cache")
    @classmethod
    def _check_cache(cls, text: str) -> str:
        if text not in {"auto", "none"}:
            parse_size(text, what="engine.activation_cache")
        return text

    @field_validator("max_memory")
    @classmethod
    def _check_size(cls, text: str | None) -> str | None:
        if text is not None:
            parse_size(text, what="engine.max_memory")
        return text


SECTIONS: dict[str, type[Options]] = {
    "data": DataOptions,
    "engine": EngineOptions,
    "evaluate": EvaluateOptions,
}

"""Presets that fill the bytes of one image per class with more: decoders, and images of 4 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_core.plugin import Preset

# For outer Adam: the published rates are for SGD and matched trajectories. Not searched, except
# that of gsdd, by short trials (docs/bytes.md). The published fit of ddif at the
# start, 5,000 steps, would take half of the hour.
HOUR: Mapping[str, tuple[float, Mapping[str, Any]]] = {
    "basis": (3e-3, {}),
    "fred": (1e-2, {}),
    "ddif": (1e-3, {"fit_steps": 1000}),
    "gsdd": (5e-3, {}),
    "speed": (3e-3, {}),
}
_COURSE = {
    "algo": "ratbptt",
    "steps": 1_000_000,
    "minutes": 60.0,
    "procs": 2,
    "ema": 0.99,
    "lr_decay": "linear",
    "data": {"whitening": "zca"},
}
_LOOP = {"window": 30, "inner_lr": 0.003, "real_batch": 512}
_CHOICES = {
    "labeler": "onehot",
    "orderer": "identity",
    "dataset": "cifar10",
    "backbone": "convnet",
    "ipc": 1.0,
}


def decoder_presets() -> list[Preset]:
    """Return `basis` as published, and an hour on two cores for each decoder."""
    return [
        Preset(
            name="basis-cifar10",
            summary="bptt on cifar10, 16 bases and 115 mixtures of them a class at 1 IPC",
            config=_published_basis(),
            reported="66.4 +- 0.4 % (Deng and Russakovsky 2022)",
            benched=False,
        ),
        *(
            Preset(
                name=f"cifar10-cpu-hour-{name}",
                summary=f"{name} at 1.0 IPC for CIFAR-10; an hour on two CPU cores, not searched",
                config=_hour(name, rate, changes),
                benched=False,
            )
            for name, (rate, changes) in HOUR.items()
        ),
    ]


def four_bit_presets() -> list[Preset]:
    """Return an hour of CIFAR-10 and of CIFAR-100 in the bytes of 1 IPC, for images of 4 bits."""
    # Whole images, of a hundred classes; of ten, four times as many at half the height and width.
    few = {"total": 100, "batch": 100}  # seven times as many as classes: longer loops, more at once
    return [
        _four_bits(10, "31 half-size images", {"downsample": 2}, {"total": 60, "batch": 50}, 1000),
        _four_bits(100, "7 images", {}, few, 300),
    ]


def _four_bits(
    classes: int,
    images: str,
    size: Mapping[str, int],
    loop: Mapping[str, int],
    judging_steps: int,
) -> Preset:
    return Preset(
        name=f"cifar{classes}-cpu-hour-uint4",
        summary=f"{images} of 4 bits a class for CIFAR-{classes} at 1 IPC of bytes; an hour on two "
        "cores",
        config={
            **_COURSE,
            "repr": "images",
            "labeler": "soft",
            "orderer": "identity",
            "dataset": f"cifar{classes}",
            "backbone": "convnet",
            "budget_bytes": 4 * classes * 3 * 32 * 32,
            "evaluate": {"steps": judging_steps, "every": 250, "select": "best"},
            "options": {
                "repr": {"init": "real", "stored": "uint4", **size},
                "labeler": {"stored": "uint8"},
                "algo": {**_LOOP, **loop, "pixel_lr": 0.01, "label_clip": True},
                "backbone": {"width": 32},
            },
        },
        benched=False,
    )


def _published_basis() -> dict[str, Any]:
    """The published command; what it shares with the defaults of `basis` and `bptt` follows."""
    return {
        **_CHOICES,
        "repr": "basis",
        "algo": "bptt",
        "steps": 500_000,
        "data": {"whitening": "standardise", "validation": 0.0},
        "options": {
            "repr": {"bases": 16, "downsample": 2},
            # 32 images of every class in each inner step. Coverage means nothing for mixtures.
            "algo": {"steps": 150, "batch": 320, "coverage_normalize": False},
            "backbone": {"width": 128, "depth": 3},
        },
    }


def _hour(name: str, rate: float, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `cifar10-cpu-hour` for a poster, with more images in each inner step."""
    return {
        **_CHOICES,
        **_COURSE,
        "repr": name,
        "evaluate": {"steps": 1000, "every": 250, "select": "best"},
        "options": {
            "repr": dict(changes),
            "algo": {**_LOOP, "total": 60, "batch": 50, "pixel_lr": rate},
            "backbone": {"width": 32},
        },
    }

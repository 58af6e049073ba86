"""Presets that finish on a laptop's CPU; what they reach is in docs/results-details.md."""

from __future__ import annotations

from typing import Any

from distill_core.plugin import Preset

_CHOICES = {"repr": "poster", "labeler": "poddl", "orderer": "poco", "algo": "ratbptt"}


def quick_presets() -> list[Preset]:
    """Return the quick configurations: no published figures, our own measurements."""
    return [
        Preset(
            name="quick-digits",
            summary="a poster of 0.9 IPC for 8x8 digits; about two minutes on a CPU",
            config={**_CHOICES, "dataset": "digits", "ipc": 0.9, "steps": 600},
        ),
        Preset(
            name="quick-cifar10-1.0",
            summary="a poster of 1.0 IPC for CIFAR-10, fixed labels; 40 minutes on a CPU",
            config=_cifar10(1.0, "fixed"),
        ),
        Preset(
            name="quick-cifar10-0.4",
            summary="a poster of 0.4 IPC for CIFAR-10, stored at half its height and width, with "
            "learned labels; 40 minutes on a CPU",
            config=_cifar10_half(),
        ),
        Preset(
            name="own-cpu-minutes",
            summary="a poster of 1 IPC of your pictures, any number of classes; ten minutes on a "
            "CPU, for pictures in my_images or -o dataset.path",
            config=_own(),
            benched=False,
        ),
        Preset(
            name="cifar10-cpu-hour",
            summary="a poster of 1.0 IPC for CIFAR-10; an hour on two CPU cores; for less, "
            "sharper labels are better: -o labeler.pooling=nearest",
            config=_cifar10_hour(),
        ),
        Preset(
            name="cifar10-cpu-hour-gaussians",
            summary="a poster of Gaussians for each class of CIFAR-10, in the bytes of one image "
            "per class; an hour on two CPU cores",
            config=_cifar10_gaussians(),
            benched=False,
        ),
        Preset(
            name="cifar100-cpu-hour",
            summary="a poster of 0.4 IPC for CIFAR-100; an hour on two CPU cores",
            config=_cifar100_hour(),
        ),
    ]


def _cifar10(ipc: float, mode: str) -> dict[str, Any]:
    return {
        **_CHOICES,
        "dataset": "cifar10",
        "backbone": "convnet",
        "ipc": ipc,
        "steps": 5000,
        "minutes": 40.0,
        "procs": 2,
        "data": {"whitening": "zca"},
        "evaluate": {"steps": 300, "every": 100},
        "options": {
            "repr": {"patches": "4x10"},
            "labeler": {"mode": mode},
            "algo": {
                "window": 15,
                "total": 50,
                "inner_lr": 0.003,
                "real_batch": 512,
                "pixel_lr": 0.01,
            },
            "backbone": {"width": 32},
        },
    }


def _cifar10_half() -> dict[str, Any]:
    """Stored at half size a poster is better, and cheaper by the step: docs/results-details.md."""
    full = _cifar10(0.4, "learned")
    options = {
        **full["options"],
        "repr": {"downsample": 2, "patches": "5x13"},
        "labeler": {"mode": "learned", "pooling": "nearest"},
        "algo": {**full["options"]["algo"], "batch": 20},
    }
    return {**full, "options": options}


def _own() -> dict[str, Any]:
    """Settings for pictures of any size and number of classes.

    What depends on them is left to the defaults: patches by the number of classes and by what the
    inner loop draws, the depth of the network by the size. The window, the width and the real batch
    are small, whitening takes no time, and judging trains few networks.
    """
    return {
        **_CHOICES,
        "dataset": "imagefolder",
        "ipc": 1.0,
        "steps": 3000,
        "minutes": 8.0,
        "lr_decay": "linear",
        "evaluate": {"nets": 3, "steps": 300, "full_steps": 300},
        "options": {
            "dataset": {"path": "my_images", "size": 32},
            "algo": {
                "window": 15,
                "total": 50,
                "batch": 20,
                "inner_lr": 0.003,
                "real_batch": 256,
                "pixel_lr": 0.01,
            },
            "backbone": {"width": 32},
        },
    }


def _cifar10_hour() -> dict[str, Any]:
    """Long windows, falling rates and an averaged poster; docs/results-details.md has the search.

    Half of the patches in each inner step: as good a step, and faster. Labels are clipped, too:
    without that and with constant rates one bad hypergradient spoilt a run after half an hour.
    """
    quick = _cifar10(1.0, "learned")
    changes = {"window": 30, "total": 60, "batch": 20, "label_clip": True}
    options = {
        **quick["options"],
        "labeler": {"mode": "learned", "pooling": "area"},  # as in the search
        "algo": {**quick["options"]["algo"], **changes},
    }
    return {
        **quick,
        "steps": 1_000_000,
        "minutes": 60.0,
        "procs": 2,
        "ema": 0.99,
        "lr_decay": "linear",
        "evaluate": {"steps": 1000, "every": 250, "select": "best"},
        "options": options,
    }


def _cifar10_gaussians() -> dict[str, Any]:
    """From fits to real images, with half the bits, and fixed labels: docs/bytes.md."""
    hour = _cifar10_hour()
    del hour["ipc"]
    algorithm = {**hour["options"]["algo"], "batch": 50, "pixel_lr": 0.005}
    del algorithm["label_clip"]  # nothing is learned of labels
    return {
        **hour,
        "budget_bytes": 4 * 10 * 3 * 32 * 32,
        "options": {
            **hour["options"],
            "repr": {"canvas": "gaussians", "init": "real", "stored": "bfloat16"},
            "labeler": {"mode": "fixed"},
            "algo": algorithm,
        },
    }


def _cifar100_hour() -> dict[str, Any]:
    """As for CIFAR-10, but with labels from the nearest cells, larger inner batches, and as many
    patches as an inner loop of that length can use: docs/paper.md."""
    hour = _cifar10_hour()
    return {
        **hour,
        "dataset": "cifar100",
        "ipc": 0.4,
        "options": {
            **hour["options"],
            "repr": {},
            "labeler": {"mode": "learned", "pooling": "nearest"},
            "algo": {**hour["options"]["algo"], "batch": 50},
        },
    }

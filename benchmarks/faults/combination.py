"""What is combined: representations, stored types, labelers, algorithms and budgets, all tiny."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from distill_core.config.discovery import discover
from distill_core.config.settings import merge

PLUGINS = discover()
TINY: dict[str, Any] = {
    "orderer": "identity",
    "algo": "ratbptt",
    "labeler": "soft",
    "dataset": "shapes",
    "ipc": 2,
    "steps": 2,
    "evaluate": {"nets": 1, "steps": 2, "full_steps": 2},
    "options": {
        "dataset": {"classes": 3, "size": 8, "train_per_class": 6, "test_per_class": 2},
        "backbone": {"width": 4, "depth": 1},
    },
}
# What makes an algorithm quick; one that is not named here has its defaults.
ALGORITHMS: dict[str, dict[str, Any]] = {
    "ratbptt": {"window": 2, "total": 3, "batch": 6, "real_batch": 8},
    "bptt": {"steps": 2, "real_per_class": 3},
    "dd": {"steps": 2},
    "mtt": {"syn_steps": 2, "experts": 1},
    "ftd": {"syn_steps": 2, "experts": 1},
    "tesla": {"syn_steps": 2, "experts": 1},
    "frepo": {"pool": 2},
    "rcig": {
        "pool": 2,
        "inner_steps": 2,
        "inner_lr": 0.1,
        "inverse_steps": 2,
        "inverse_lr": 0.1,
        "most_updates": 3,
    },
}
# What makes a representation small enough for such images; others have their defaults.
SMALL: dict[str, dict[str, Any]] = {
    "basis": {"bases": 10},
    "ddif": {"width": 3, "fit_steps": 2},
    "fred": {"coefficients": 5},
    "gsdd": {"points": 4, "fit_steps": 2},
    "poster": {"patches": "2x4"},
    "speed": {"tokens": 3, "dim": 4, "kept": 5, "fit_steps": 2},
}
# Ways to store that are options of a representation: its name, its options, images per class.
VARIANTS: dict[str, tuple[str, dict[str, Any], float]] = {
    "images, half size": ("images", {"downsample": 2}, 0.5),
    "coreset, small": ("coreset", {}, 0.5),
    "poster, below one": ("poster", {"patches": "2x4"}, 0.8),
    "poster, half size": ("poster", {"patches": "2x4", "downsample": 2}, 0.8),
    "poster, cyclic": ("poster", {"patches": "2x4", "cyclic": True}, 0.8),
    "poster, frequencies": ("poster", {"patches": "2x4", "canvas": "frequencies"}, 0.8),
    "poster, bases": ("poster", {"patches": "2x4", "canvas": "bases"}, 1),
    "poster, gaussians": ("poster", {"patches": "2x4", "canvas": "gaussians"}, 0.8),
    "poster, lowrank": ("poster", {"patches": "2x4", "canvas": "lowrank"}, 0.8),
}
TYPES: list[tuple[str, str]] = [
    ("float32", "channel"),
    ("bfloat16", "channel"),
    *product(("uint8", "uint4", "uint2"), ("channel", "tensor", "learned")),
]
# Of budgets in bytes: the stored type of images and labels, and the labeler.
BUDGETS = [
    ("float32", "float32", "onehot"),
    ("float32", "float32", "soft"),
    ("bfloat16", "uint8", "soft"),
    ("uint8", "float32", "poddl"),
    ("uint2", "uint4", "soft"),
]
LIMITS = (100, 1500, 4000, 9001)  # bytes; an image of each class takes 2304


@dataclass(frozen=True)
class Case:
    """A combination.

    Attributes:
        name: the product that it belongs to, and what is combined.
        settings: of the run, over `TINY`.
        exports: write and read every export, too.
    """

    name: str
    settings: dict[str, Any] = field(compare=False)
    exports: bool = False


def representations() -> dict[str, dict[str, Any]]:
    """Return the settings of every representation of the catalogue, and of `VARIANTS`."""
    plain = {name: (name, SMALL.get(name, {}), 2) for name in PLUGINS["representation"].names()}
    return {
        each: {"repr": name, "ipc": ipc, "options": {"repr": options}}
        for each, (name, options, ipc) in {**plain, **VARIANTS}.items()
    }


def cases() -> Iterator[Case]:
    """Yield every combination."""
    for name, chosen in representations().items():
        for kind, how in TYPES:
            yield _typed(f"types: {name}", chosen, "soft", kind, how)
    for labeler in PLUGINS["labeler"].names():
        for kind, how in TYPES:
            chosen = representations()["images"]
            yield _typed(f"labels: {labeler}", chosen, labeler, kind, how)
    for name, chosen in representations().items():
        for algorithm in PLUGINS["algorithm"].names():
            for kind in ("float32", "uint4"):
                yield _with_algorithm(name, chosen, algorithm, kind)
        yield _with_algorithm(name, chosen, "ratbptt", "float32", curriculum="adaptive")
        for images, labels, labeler in BUDGETS:
            for limit in LIMITS:
                yield budgeted(name, images, labels, labeler, limit)


def budgeted(name: str, images: str, labels: str, labeler: str, limit: int) -> Case:
    """Return the case of a budget of `limit` bytes for a representation of `representations`."""
    stored = {"repr": _stored(images, "channel"), "labeler": _stored(labels, "channel")}
    settings = {"ipc": None, "budget_bytes": limit, "labeler": labeler, "options": stored}
    called = f"budgets: {name} in {images}, {labeler} in {labels}, {limit}"
    return Case(called, merge(representations()[name], settings))


def _typed(name: str, chosen: Mapping[str, Any], labeler: str, kind: str, how: str) -> Case:
    stored = _stored(kind, how)
    options = {"repr": stored, "labeler": stored, "algo": ALGORITHMS["ratbptt"]}
    settings = merge(chosen, {"labeler": labeler, "options": options})
    return Case(f"{name}, {kind} by {how}", settings, exports=True)


def _with_algorithm(
    name: str, chosen: Mapping[str, Any], algorithm: str, kind: str, **more: Any
) -> Case:
    """Labels are learned where the algorithm can; where nothing else is, it must say so."""
    learns = PLUGINS["algorithm"][algorithm].resolve_factory().learns_labels
    labeler = "soft" if learns else "onehot"
    options = {"repr": _stored(kind, "channel"), "algo": {**ALGORITHMS.get(algorithm, {}), **more}}
    settings = {"labeler": labeler, "algo": algorithm, "options": options}
    called = ", ".join([f"algorithms: {name}", algorithm, kind, *map(str, more.values())])
    return Case(called, merge(chosen, settings))


def _stored(kind: str, how: str) -> dict[str, Any]:
    return {"stored": kind, **({} if how == "channel" else {"scales": how})}

"""The runs behind the figure of bytes against accuracy, and behind the table of pairs.

Settings are those of the presets for an hour of a CPU; on digits, which are for trying the script,
the defaults and small decoders.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass

from paper_cells import Cell, on_a_core, options, without
from results import FIXED_LABELS, METHODS

from distill_core.builtin.presets import HOUR
from distill_core.config.discovery import discover

SHAPES = {"digits": (10, 8 * 8), "cifar10": (10, 3 * 32 * 32), "cifar100": (100, 3 * 32 * 32)}
BUDGETS = (0.1, 0.4, 1.0)  # in float32 images per class
FLOAT, BYTE = 4, 1

PLAIN = ("--labeler", "onehot", "--orderer", "identity")
IMAGES = ("--repr", "images", *PLAIN)
SOFT = (
    "--repr",
    "images",
    "--labeler",
    "soft",
    "--orderer",
    "identity",
    *options("repr.init=real"),
)
POSTER = ("--repr", "poster", "--labeler", "poddl", "--orderer", "poco")
NEAREST = options("labeler.pooling=nearest", "repr.patches=none")
FIXED = options("labeler.mode=fixed", "labeler.pooling=none", "repr.patches=none")
GAUSSIANS = options("repr.canvas=gaussians", "repr.init=real")
DECODERS = tuple(HOUR)
REPRESENTATIONS: dict[str, tuple[str, ...]] = {
    "images": IMAGES,
    "images, soft labels": SOFT,
    "images, half size": (*IMAGES, *options("repr.downsample=2")),
    "images, half size, soft labels": (*SOFT, *options("repr.downsample=2")),
    "poster": (*POSTER, *NEAREST),
    "poster, half size": (*POSTER, *NEAREST, *options("repr.downsample=2")),
    "poster, frequencies": (*POSTER, *NEAREST, *options("repr.canvas=frequencies")),
    "poster, bases": (*POSTER, *NEAREST, *options("repr.canvas=bases")),
    "poster, low rank": (*POSTER, *NEAREST, *options("repr.canvas=lowrank")),
    "poster, gaussians": (*POSTER, *NEAREST, *GAUSSIANS),
    "poster, gaussians, fixed labels": (*POSTER, *FIXED, *GAUSSIANS),
    **{name: ("--repr", name, *PLAIN) for name in DECODERS},
}
STORED = {
    "images, soft labels": ("uint8", "uint4", "uint2"),
    "images, half size": ("uint8", "uint4"),
    "images, half size, soft labels": ("uint4",),
    "poster": ("uint8",),
    "poster, half size": ("uint8", "uint4", "uint2"),
    "poster, frequencies": ("uint8",),
    "poster, gaussians": ("bfloat16",),
    "poster, gaussians, fixed labels": ("bfloat16",),
    "basis": ("uint8",),
    "fred": ("uint8",),
    "ddif": ("bfloat16",),
    "gsdd": ("bfloat16",),
    "speed": ("bfloat16",),
}
LARGE = 40  # items of an inner batch where a poster has four times the patches
# Of the digits' 8x8 pixels; the published sizes do not fit there.
SMALL = {
    "basis": ("repr.bases=4",),
    "fred": ("repr.coefficients=16",),
    "ddif": ("repr.width=3", "repr.fit_steps=20"),
    "gsdd": ("repr.points=4", "repr.fit_steps=20"),
    "speed": ("repr.tokens=3", "repr.dim=4", "repr.kept=5", "repr.fit_steps=20"),
}
CORESETS = {
    "real images": ("repr.method=random",),
    "coreset, herding": ("repr.method=herding", "repr.features=network"),
    "coreset, k-center": ("repr.method=kcenter", "repr.features=network"),
}
PAIRED = (
    "images",
    "images, half size",
    "poster",
    "poster, half size",
    "poster, gaussians, fixed labels",
    *DECODERS,
)
ADAM = ("ratbptt", "dd", "frepo", "rcig")  # algorithms that take the decoders' rates
# Of algorithms whose outer optimizer is SGD, for pixels.
PIXEL_RATES = {
    "bptt": 0.1,
    "dm": 1.0,
    "dc": 0.1,
    "dsa": 0.1,
    "mtt": 100.0,
    "ftd": 100.0,
    "tesla": 100.0,
}
# What numbers that are no pixels take of these: the best power of ten with `dm` on validation;
# of Gaussians `dsa` and `mtt` have the same (docs/bytes.md).
SHARES = {"basis": 0.1, "fred": 10.0, "ddif": 1e-3, "gsdd": 1e-2, "speed": 1e-3}
# As far as is known here. Tables 1 to 3 of GSDD (arXiv:2509.26219) match gradients, distributions
# and trajectories with IDC, FreD, DDiF and GSDD, and trajectories with SPEED.
MATCHED = ("dc", "dm", "mtt")
PUBLISHED_PAIRS = {
    *(("images", method) for method in METHODS),
    *(("images, half size", method) for method in (*MATCHED, "dsa")),
    ("poster", "ratbptt"),
    ("basis", "bptt"),
    ("basis", "ratbptt"),
    *((name, method) for name in ("fred", "ddif", "gsdd") for method in MATCHED),
    ("speed", "mtt"),
}


@dataclass(frozen=True)
class ByteCell(Cell):
    """One run of the figure or of the table, repeated for each seed.

    Attributes:
        representation: what a line of the figure is called.
        algorithm: that distills it; "none" for real images.
    """

    representation: str = ""
    algorithm: str = "ratbptt"


def limit_of(dataset: str, budget: float) -> int:
    """Return the bytes of a budget in float32 images per class."""
    classes, image = SHAPES[dataset]
    return round(budget * FLOAT * classes * image)


def curve(args: Namespace) -> list[ByteCell]:
    """Real images, coresets, and every representation in its types, at every budget."""
    lines = [
        (name, words, kind)
        for name, words in REPRESENTATIONS.items()
        for kind in ("float32", *STORED.get(name, ()))
    ]
    return [
        *(coreset(name, budget, args) for budget in args.budgets for name in CORESETS),
        *(
            _learned(args.dataset, name, words, kind, budget)
            for budget in args.budgets
            for name, words, kind in lines
        ),
    ]


def coreset(name: str, budget: float, args: Namespace) -> ByteCell:
    """Real images of 8 bits a number: whole ones, where a budget pays for them; scales beside."""
    words = ("--algo", "none", "--repr", "coreset", *PLAIN, "--ipc", f"{budget * FLOAT / BYTE:g}")
    own = options("repr.stored=uint8", *CORESETS[name])
    return ByteCell(
        args.dataset,
        f"{name} {budget:g}",
        (*_real(args.dataset), *words, *own),
        representation=name,
        algorithm="none",
    )


def _real(dataset: str) -> tuple[str, ...]:
    if dataset == "digits":
        return ("--dataset", "digits")
    return options("data.whitening=zca", "evaluate.steps=1000", "backbone.width=32")


def _learned(dataset: str, name: str, words: tuple[str, ...], kind: str, budget: float) -> ByteCell:
    stored = () if kind == "float32" else options(f"repr.stored={kind}")
    if stored and name.endswith("soft labels"):  # a hundred numbers an item, on a hundred classes
        stored = (*stored, *options("labeler.stored=uint8"))
    line = name if kind == "float32" else f"{name}, {kind}"
    return ByteCell(
        dataset,
        f"{line} {budget:g}",
        (*_hour(dataset, name), *words, *stored, *spent(dataset, budget)),
        representation=line,
    )


def _hour(dataset: str, name: str) -> tuple[str, ...]:
    """Return a preset for an hour and what a representation changes in it."""
    if dataset == "digits":
        return ("--dataset", "digits", "--algo", "ratbptt", *options(*SMALL.get(name, ())))
    if name in DECODERS:
        rate, changes = HOUR[name]
        if dataset == "cifar10":
            return ("--preset", f"cifar10-cpu-hour-{name}")
        own = (f"repr.{option}={value}" for option, value in changes.items())
        return (*on_a_core(dataset), *options(f"algo.pixel_lr={rate}", *own))
    if name.startswith("poster, gaussians"):  # as `gsdd`
        return (*on_a_core(dataset), *options("algo.batch=50", f"algo.pixel_lr={HOUR['gsdd'][0]}"))
    wide = name.startswith("poster, ") and dataset == "cifar10"
    return (*on_a_core(dataset), *(options(f"algo.batch={LARGE}") if wide else ()))


def spent(dataset: str, budget: float) -> tuple[str, ...]:
    """Return the words that give a budget in bytes, whatever a preset has."""
    return ("--budget-bytes", str(limit_of(dataset, budget)), *options("run.ipc=none"))


def pairs(args: Namespace) -> list[ByteCell]:
    """Every representation with every algorithm, at the first budget."""
    return [
        pair(args.dataset, name, method, args.budgets[0]) for name in PAIRED for method in METHODS
    ]


def pair(dataset: str, name: str, method: str, budget: float) -> ByteCell:
    """One representation with one algorithm: the settings of results.py for that algorithm."""
    words = REPRESENTATIONS[name]
    if name.startswith("poster") and method in FIXED_LABELS:
        words = (*without(words, "labeler"), *options("labeler.mode=fixed"))
    if dataset == "digits":
        settings = ("--dataset", "digits", *options(*SMALL.get(name, ())))
    else:
        decoder = "gsdd" if "gaussians" in name else name
        rate, changes = HOUR.get(decoder, (None, {}))
        own = [f"repr.{option}={value}" for option, value in changes.items()]
        if decoder in HOUR:
            share = SHARES[decoder]
            rates = dict.fromkeys(ADAM, rate) | {n: share * r for n, r in PIXEL_RATES.items()}
            own.append(f"algo.pixel_lr={rates[method]:g}")
        common = options("data.whitening=zca", "evaluate.steps=1000", "evaluate.every=0")
        settings = (*common, *_taken(words[1], METHODS[method]), *options(*own))
    return ByteCell(
        dataset,
        f"{name} x {method} {budget:g}",
        ("--algo", method, *words, *settings, *spent(dataset, budget)),
        representation=name,
        algorithm=method,
    )


def _taken(representation: str, settings: list[str]) -> tuple[str, ...]:
    """Return settings without those that a representation does not have."""
    known = type(discover()["representation"].check(representation, {})).model_fields
    named = {each: each.partition("=")[0] for each in settings[1::2]}
    return options(
        *(
            each
            for each, name in named.items()
            if not name.startswith("repr.") or name.removeprefix("repr.") in known
        )
    )


PARTS = {"curve": curve, "pairs": pairs}

"""The runs behind each table and figure of the PoDD paper, as words for `distill run`.

Two scales: `--full` is the published setting, for a GPU; the other one is for a core of a CPU: the
presets `cifar10-cpu-hour` and `cifar100-cpu-hour` for posters and RaT-BPTT's images, the settings
of benchmarks/results.py for other methods.
"""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from results import METHODS

from distill_core.config.discovery import discover, preset_settings
from podd_plugin.baselines import baseline_presets
from podd_plugin.presets import IPCS, presets

DATASETS = ("cifar10", "cifar100", "cub200", "tiny-imagenet")
PUBLISHED = {
    preset.name: preset.reported.partition(" %")[0] for preset in (*presets(), *baseline_presets())
}
# Figure 6, CIFAR-10 at 1 IPC after 500 steps: rows x columns here are columns x rows there.
PATCHES = {
    "2x5": "45.15",
    "3x8": "47.28",
    "4x10": "56.77",
    "5x12": "54.14",
    "6x16": "56.73",
    "7x18": "55.55",
    "8x20": "57.61",
}
ORDERS = 8
CORRELATION = "0.76"  # section 5.3, of 5 orders
# On a core all methods have networks of one kind, which the kernels are for.
PLAIN_NETWORK = ("backbone.growth=1", "backbone.norm=instance", "backbone.activation=relu")
# Of figure 6, instead of the preset's 20: all patches are in each inner step, up to a limit, as in
# the paper (96 there).
INNER_BATCH = 40


@dataclass(frozen=True)
class Cell:
    """One run, repeated for each seed.

    Attributes:
        dataset: what it is measured on.
        name: what differs from the others of its table.
        words: arguments of `distill run` besides data, seed, length and place.
        printed: the paper's figure, empty where it has none.
        steps: outer steps, if the paper fixes them.
    """

    dataset: str
    name: str
    words: tuple[str, ...]
    printed: str = ""
    steps: int | None = None

    @property
    def key(self) -> str:
        """A name for files, the same in every table that has this run."""
        return f"{self.dataset}-{self.name}".replace(" ", "-")


def options(*pairs: str) -> tuple[str, ...]:
    """Return `-o` words."""
    return tuple(word for pair in pairs for word in ("-o", pair))


def table_1(args: Namespace) -> list[Cell]:
    """Posters of 0.3 to 1 IPC beside learned images of 1 IPC."""
    return [
        cell
        for dataset in datasets(args)
        for cell in (
            images(dataset, args),
            *(poster(dataset, ipc, args) for ipc in IPCS),
            *half_size(dataset, args),
        )
    ]


def table_2(args: Namespace) -> list[Cell]:
    """Every method with images of 1 IPC, and the poster of 1 IPC."""
    return [
        cell
        for dataset in datasets(args)
        for cell in (
            *(baseline(dataset, method, args) for method in METHODS),
            poster(dataset, 1.0, args),
        )
        if cell is not None
    ]


def figure_6(args: Namespace) -> list[Cell]:
    """CIFAR-10 at 1 IPC with more and more patches."""
    batch = () if args.full else options(f"algo.batch={INNER_BATCH}")
    base = poster("cifar10", 1.0, args).words
    return [
        Cell(
            "cifar10",
            f"{patches} patches",
            (*base, *batch, *options(f"repr.patches={patches}")),
            printed,
            500,
        )
        for patches, printed in PATCHES.items()
    ]


def ablation_order(args: Namespace) -> list[Cell]:
    """CIFAR-10 at 0.3 IPC for 250 steps, with random class orders and nothing else changed."""
    base = poster("cifar10", 0.3, args).words
    cells = []
    for number in range(args.orders):
        grid = list(range(10))
        random.Random(number).shuffle(grid)
        file = args.out / "orders" / f"{number}.json"
        if not args.report:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"[{grid[:5]}, {grid[5:]}]\n")
        given = ("--orderer", "given", *options(f"orderer.file={file.resolve()}"))
        cells.append(
            Cell("cifar10", f"order {number}", (*without(base, "orderer"), *given), "", 250)
        )
    return cells


def figure_8(args: Namespace) -> list[Cell]:
    """The poster whose neighbouring classes share colours: table 1's of CIFAR-10 at 1 IPC."""
    return [poster("cifar10", 1.0, args)]


def figure_9(args: Namespace) -> list[Cell]:
    """CIFAR-10 at 10 IPC with a poster for each class, by TESLA as in section 6."""
    if args.full:  # the preset has data, outer steps and judging
        method = ("--preset", "tesla-cifar10", *options("data.whitening=zca_kornia"))
    else:
        method = ("--algo", "tesla", *METHODS["tesla"])
    parts = ("--repr", "poster", "--labeler", "poddl", "--orderer", "poco", "--ipc", "10")
    return [
        Cell("cifar10", "a poster per class", (*parts, *options("labeler.mode=fixed"), *method))
    ]


PARTS: dict[str, Callable[[Namespace], list[Cell]]] = {
    "table 1": table_1,
    "table 2": table_2,
    "figure 6": figure_6,
    "ablation order": ablation_order,
    "figure 8": figure_8,
    "figure 9": figure_9,
}


def poster(dataset: str, ipc: float, args: Namespace) -> Cell:
    """The poster of a budget: the paper's preset, or the one for a core."""
    name = f"podd-{dataset}-{ipc}"
    if args.full:
        return Cell(dataset, f"poster {ipc}", ("--preset", name), PUBLISHED[name])
    # The number of patches follows from the inner loop: see `repr.density`.
    own = options("labeler.pooling=nearest", "repr.patches=none")
    words = (*on_a_core(dataset), *own, "--ipc", str(ipc))
    return Cell(dataset, f"poster {ipc}", words, PUBLISHED[name])


def half_size(dataset: str, args: Namespace) -> list[Cell]:
    """The poster of 0.4 IPC stored at half its height and width; not in the paper."""
    patches = {"cifar10": "5x13", "cifar100": "12x12"}
    if args.full or dataset not in patches:
        return []
    words = poster(dataset, 0.4, args).words
    own = options("repr.downsample=2", f"repr.patches={patches[dataset]}")
    return [Cell(dataset, "half-size poster 0.4", (*words, *own))]


def images(dataset: str, args: Namespace) -> Cell:
    """RaT-BPTT's row: learned images of 1 IPC by the same algorithm."""
    name = f"ratbptt-{dataset}"
    if args.full:
        return Cell(dataset, "images 1.0", ("--preset", name), PUBLISHED[name])
    parts = ("--repr", "images", "--labeler", "soft", "--orderer", "identity", "--ipc", "1")
    return Cell(dataset, "images 1.0", (*on_a_core(dataset), *parts), PUBLISHED[name])


def on_a_core(dataset: str) -> tuple[str, ...]:
    """The settings of the preset for an hour; CIFAR-100's for all data of many classes."""
    return ("--preset", "cifar10-cpu-hour" if dataset == "cifar10" else "cifar100-cpu-hour")


def baseline(dataset: str, method: str, args: Namespace) -> Cell | None:
    """A row of table 2; None if the paper has no figure for this method and dataset."""
    name = f"{method}-{dataset}"
    if name not in PUBLISHED:
        return None
    if method == "ratbptt":
        return images(dataset, args)
    if args.full:
        return Cell(dataset, f"images {method}", ("--preset", name), PUBLISHED[name])
    words = ("--preset", name, *METHODS[method], *options(*PLAIN_NETWORK))
    return Cell(dataset, f"images {method}", words, PUBLISHED[name])


def datasets(args: Namespace) -> list[str]:
    """The datasets whose files were named, or the published ones for `--full`."""
    return [name for name in DATASETS if args.full or name in args.data]


def without(words: tuple[str, ...], prefix: str) -> tuple[str, ...]:
    """Return words without `-o PREFIX.*`."""
    kept: list[str] = []
    for word in words:
        if word.startswith(f"{prefix}."):
            kept.pop()  # its -o
        else:
            kept.append(word)
    return tuple(kept)


def place_of_images(cell: Cell, args: Namespace) -> tuple[str, ...]:
    """Return the words that say where the images are."""
    if not (path := args.data.get(cell.dataset)):
        return ()
    # Standard folders of these two are no class folders, and photos of birds are squashed.
    own = cell.dataset in ("cub200", "tiny-imagenet")
    name, option = (cell.dataset.replace("-", "_"), "root") if own else ("imagefolder", "path")
    return ("--dataset", name, *options(f"dataset.{option}={Path(path).resolve()}"))


def place(cell: Cell, args: Namespace) -> tuple[str, ...]:
    """Return the words that say where the images and the embeddings of class names are."""
    words = place_of_images(cell, args)
    file = args.embeddings.get(cell.dataset)
    if file and _orderer(cell.words) not in ("given", "identity"):
        words += options("orderer.similarity=file", f"orderer.file={Path(file).resolve()}")
    return words


def _orderer(words: tuple[str, ...]) -> str | None:
    """Return the orderer of a run: its own, or that of its preset."""
    flags = dict(zip(words[::2], words[1::2], strict=True))
    preset = flags.get("--preset")
    settings = preset_settings(preset, discover()) if preset else {}
    return flags.get("--orderer", settings.get("orderer"))

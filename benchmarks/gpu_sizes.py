"""The sizes of all parts of `gpu.py`, and what a part is asked for; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sizes:
    """Sizes of the published CIFAR-10 setting, and how often each thing is measured.

    Attributes:
        side: height and width of images.
        poster, patches: of the poster, 1 IPC, 2x5 classes.
        width, depth: of the network.
        batch: synthetic images of an inner step.
        warm_up, window: inner steps before and in the differentiated window.
        real: real images of an outer step.
        chunks: sizes of real chunks that are tried; the first is today's default.
        short: inner steps before and in the window, and real images, where a CPU is the reference.
        repeats: timings of a kernel.
        untimed, timed: outer steps.
        nets, net_steps: networks that judge, and their training steps.
        copy: bytes that are copied to find the bandwidth.
    """

    side: int = 32
    poster: str = "64x160"
    patches: str = "6x16"
    width: int = 128
    depth: int = 3
    batch: int = 96
    warm_up: int = 70
    window: int = 60
    real: int = 5000
    chunks: tuple[int, ...] = (250, 1000, 5000)
    short: tuple[int, int, int] = (3, 4, 250)
    repeats: int = 20
    untimed: int = 3
    timed: int = 5
    nets: int = 8
    net_steps: int = 2000
    copy: int = 2**31


SIZES = {
    "published": Sizes(),
    "tiny": Sizes(
        side=8,
        poster="16x40",
        patches="2x5",
        width=4,
        depth=2,
        batch=10,
        warm_up=2,
        window=2,
        real=24,
        chunks=(8, 12, 24),
        short=(1, 2, 12),
        repeats=2,
        untimed=1,
        timed=2,
        nets=2,
        net_steps=3,
        copy=2**20,
    ),
}


@dataclass(frozen=True)
class Job:
    """What a part is asked for.

    Attributes:
        part: its name.
        device: "cuda" or "cpu".
        form: a key of `SIZES`.
        end: when it is ended, by `time.time`.
        data: archives or folders of real images, for part `runs`.
        out: folder that results go to.
        work: folder for what is large and can be made again.
        options: `-o` of the runs of part `runs`.
        chosen: names of these runs; none for all.
    """

    part: str
    device: str
    form: str
    end: float
    data: tuple[Path, ...]
    out: Path
    work: Path
    options: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()

    @property
    def sizes(self) -> Sizes:
        """Its sizes."""
        return SIZES[self.form]

    @property
    def cuda(self) -> bool:
        """Whether it is about a CUDA device."""
        return self.device.startswith("cuda")

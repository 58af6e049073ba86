"""Named random streams: every draw of a run comes from one of them, none from global state."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Generator, Tensor


class Streams:
    """CPU generators, each seeded from the run's seed and its own name.

    Adding a stream does not change the others. A checkpoint saves all of them.

    Args:
        seed: the run's seed.
        *names: distinguish these streams from others of the same seed.

    >>> a, b = Streams(0), Streams(0)
    >>> _ = torch.rand(3, generator=a["draw"])
    >>> bool((torch.rand(2, generator=a["real"]) == torch.rand(2, generator=b["real"])).all())
    True
    """

    def __init__(self, seed: int, *names: object) -> None:
        self.seed = seed
        self.names = names
        self._generators: dict[str, Generator] = {}

    def __getitem__(self, name: str) -> Generator:
        if name not in self._generators:
            self._generators[name] = seeded(self.seed, *self.names, name)
        return self._generators[name]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of every stream used so far."""
        return {name: made.get_state() for name, made in sorted(self._generators.items())}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where `state_dict` was taken."""
        self._generators = {}
        for name, value in state.items():
            self[name].set_state(value)


def streams_of_rank(seed: int, rank: int, *, since: int = 0) -> Streams:
    """Return the streams of one process of a run.

    Args:
        seed: the run's seed.
        rank: the process; rank 0 draws what a run of one process draws.
        since: the outer step at which this rank joined; it does not repeat what a rank of the same
            number drew before.
    """
    if rank == 0:
        return Streams(seed)
    return Streams(seed, "rank", rank, *(("since", since) if since else ()))


def seeded(seed: int, *names: object) -> Generator:
    """Return a CPU generator seeded from a seed and names; equal arguments, equal draws."""
    text = "/".join(str(part) for part in (seed, *names))
    digest = hashlib.sha256(text.encode()).digest()
    generator = Generator()
    generator.manual_seed(int.from_bytes(digest[:7], "big"))
    return generator


@contextmanager
def global_seed(generator: Generator) -> Iterator[None]:
    """Seed PyTorch's global CPU state from a generator, and restore it afterwards.

    Layers initialise themselves from global state; only the construction of a network needs this.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    before = torch.get_rng_state()
    # Not `torch.manual_seed`, which also seeds the generators of all devices.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def global_states() -> Callable[[], bool]:
    """Return a function that tells whether the global random states are unchanged since now.

    They are those of PyTorch on all devices, NumPy and Python.
    """

    def read() -> tuple[object, ...]:
        name, keys, *rest = np.random.get_state()  # noqa: NPY002 (the global state is watched)
        states = [torch.get_rng_state()]
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            states += torch.cuda.get_rng_state_all()
        torch_states = [state.numpy().tobytes() for state in states]
        return torch_states, name, np.asarray(keys).tobytes(), rest, random.getstate()

    before = read()
    return lambda: read() == before

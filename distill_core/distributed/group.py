"""The processes of one run, by torch.distributed: averages, gathering and broadcasts.

Everything is sent by gloo, which notices a dead process at once. So are gradients on CUDA devices:
they are small (0.1 to 9 MB), and nccl would abort a process whose neighbour has died, so that no
process could save the run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from distill_core.contracts.transfer import to_device
from distill_core.distributed.heartbeat import Heartbeat
from distill_core.distributed.launch import LAUNCHER, launched
from distill_core.distributed.ranks import SINGLE_PROCESS, RankLostError, Ranks
from distill_core.system.children import end_with_parent
from distill_core.system.devices import has_cuda
from distill_core.system.state_tree import pack, unpack
from registry import InputError, OptionError, first_line

# Loading data and training networks may take long. A process that died is noticed by its closed
# connection, and one that has stopped by its heartbeat, so this limit is never needed.
_PATIENCE = timedelta(days=7)
_BACKEND = "gloo"
_GOODBYE_SECONDS = 5.0
_GOODBYE_SECONDS_TO_THE_LOST = 1.0


class Group(Ranks):
    """One of several processes.

    Args:
        store: where the processes meet.
        rank: number of this process.
        size: how many there are.
        local_rank: number of this process on its machine; its CUDA device.
        local_size: how many there are on its machine.
    """

    def __init__(
        self, store: Store, *, rank: int, size: int, local_rank: int = 0, local_size: int = 1
    ) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self.local_size = max(local_size, local_rank + 1)
        self._store = PrefixStore("distill", store)
        dist.init_process_group(
            _BACKEND, store=store, rank=rank, world_size=size, timeout=_PATIENCE
        )
        self._step_group: dist.ProcessGroup | None = None
        self._heartbeat: Heartbeat | None = None
        self._lost = False

    def device(self, name: str) -> str:
        """Return "cuda:LOCAL_RANK" for CUDA, and any other device as it is.

        Raises:
            OptionError: one CUDA device was named for all processes.
            InputError: this machine has fewer of them than processes; all of these say so.
        """
        if name.startswith("cuda:"):
            raise OptionError(
                f"device '{name}' cannot be shared by {self.size} processes.",
                expected="auto, cpu or cuda; each process takes a CUDA device of its own.",
                next="pass --device cuda, and choose devices with CUDA_VISIBLE_DEVICES.",
            )
        if name not in ("auto", "cuda") or not has_cuda():
            return name
        count = torch.cuda.device_count()
        if self.local_size > count:
            raise InputError(
                f"there are {self.local_size} processes on this machine, and {count} CUDA "
                f"device{'s' if count > 1 else ''} can be seen.",
                expected="a device for each process.",
                next=f"start at most {count} on a machine, or pass --device cpu.",
            )
        # Before anything is made, or every process would also use memory of the first card.
        torch.cuda.set_device(self.local_rank)
        return f"cuda:{self.local_rank}"

    def limit(self, minutes: float) -> None:
        """Make the group of the outer steps, with a time limit, and start the heartbeat."""
        with self._collective():
            group = dist.new_group(backend=_BACKEND, timeout=timedelta(minutes=minutes))
        assert isinstance(group, dist.ProcessGroup)
        self._step_group = group
        patience = 60 * minutes
        if self._heartbeat:
            self._heartbeat.patience = patience
        else:
            self._heartbeat = Heartbeat(
                self._store, rank=self.rank, size=self.size, patience=patience
            )

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average `.grad` over ranks in one all-reduce, in place, through the CPU."""
        trained = list(parameters)
        # One more number for every parameter: on how many ranks it has a gradient.
        present = torch.tensor([float(p.grad is not None) for p in trained])
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        there = torch.cat([part.reshape(-1) for part in parts])
        flat = _empty_on_cpu(len(there) + len(parts), like=there)
        sums, counts = torch.split(flat, [len(there), len(parts)])
        sums.copy_(there)
        counts.copy_(present)
        with self._collective():
            dist.all_reduce(flat, group=self._step_group)
        totals = torch.split(to_device(sums, there.device), [part.numel() for part in parts])
        for parameter, total, count in zip(trained, totals, counts.tolist(), strict=True):
            mean = (total / self.size).view_as(parameter).to(parameter)
            parameter.grad = mean if count else None

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Combine flags by "or"."""
        counts = torch.tensor(flags, dtype=torch.int32)
        with self._collective():
            dist.all_reduce(counts, dist.ReduceOp.MAX, group=self._step_group)
        return tuple(bool(count) for count in counts.tolist())

    def gather(self, value: Any) -> list[Any]:
        """Send the value to rank 0."""
        data = _bytes(value)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with self._collective():
            self._meet()
            dist.all_gather(sizes, torch.tensor([len(data)]))
            longest = int(max(sizes))
            padded = torch.cat([data, data.new_zeros(longest - len(data))])
            parts = [torch.empty_like(padded) for _ in sizes] if self.is_main else None
            dist.gather(padded, parts)
        return [_value(part[: int(size)]) for part, size in zip(parts or [], sizes, strict=False)]

    def broadcast(self, value: Any) -> Any:
        """Receive rank 0's value."""
        data = _bytes(value if self.is_main else None)
        size = torch.tensor([len(data)])
        with self._collective():
            self._meet()
            dist.broadcast(size, 0)
            data = data if self.is_main else torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(data, 0)
        return value if self.is_main else _value(data)

    def hand_over(self, error: BaseException) -> bool:
        """Put the error into the store, where rank 0 looks when this rank is missing."""
        if not self._reachable() or (self._heartbeat and not self._heartbeat.lives(0)):
            return False
        if isinstance(error, RankLostError):
            return True  # another rank's end is the cause, not this one's
        text = f"{type(error).__name__}: {error}" if not hasattr(error, "what") else str(error)
        with contextlib.suppress(RuntimeError):
            self._store.set(f"failed/{self.rank}", text)
        return True

    def end(self, code: int) -> int:
        """Close the connections, so that no rank waits in vain, and wait for rank 0's exit code.

        A launcher kills all processes when one fails. So rank 0, which prints the message, gets
        time, and the others end with its exit code.
        """
        self._step_group = None
        patience = _GOODBYE_SECONDS if self.is_main else _PATIENCE.total_seconds()
        if self._lost:
            # Rank 0 may be the lost one; the remaining ranks have noticed as well.
            patience = _GOODBYE_SECONDS_TO_THE_LOST if self.is_main else _GOODBYE_SECONDS
        reachable = self._reachable()
        if self._heartbeat:
            self._heartbeat.leave()
        with contextlib.suppress(RuntimeError):
            if self.is_main and reachable:
                self._store.set("code", str(code))
            dist.destroy_process_group()
            if not reachable:
                return code
            if self.is_main:
                self._store.add("gone", 0)
                self._wait(lambda: self._store.add("gone", 0) >= self.size - 1, patience)
            elif self._wait(lambda: self._store.check(["code"]), patience):
                code = int(self._store.get("code"))
                self._store.add("gone", 1)
        return code

    def _meet(self) -> None:
        """Wait for all ranks while they work, but not for one that has stopped."""
        if self._heartbeat:
            self._heartbeat.meet()

    def _reachable(self) -> bool:
        """Whether the store answers; if its host has stopped, every call would hang."""
        return self._heartbeat is None or self._heartbeat.answers()

    @staticmethod
    def _wait(done: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not (reached := done()) and time.monotonic() < end:
            time.sleep(0.02)  # so that signals get through
        return reached

    @contextlib.contextmanager
    def _collective(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self._lost = True
            raise RankLostError(
                self._cause(error),
                expected="all processes of the run until it is complete.",
                next="see what that process printed, and start again.",
            ) from error

    def _cause(self, error: RuntimeError) -> str:
        with contextlib.suppress(RuntimeError):
            for rank in range(self.size if self._reachable() else 0):
                if self._store.check([f"failed/{rank}"]):
                    text = self._store.get(f"failed/{rank}").decode()
                    return f"rank {rank} of {self.size} failed with: {' '.join(text.split())}"
        reason = str(error).split("] ", 1)[-1].split(". ")[0].splitlines()[0]
        return f"one of {self.size} processes has ended or does not answer: {reason}."


def _empty_on_cpu(size: int, *, like: Tensor) -> Tensor:
    """Return a buffer for the exchange between a device and gloo; pinned for CUDA."""
    return torch.empty(size, dtype=like.dtype, pin_memory=like.device.type == "cuda")


def join(environment: Mapping[str, str]) -> Ranks:
    """Join the other processes that a launcher started, if there are any.

    Args:
        environment: as torchrun sets it: WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT.

    Raises:
        InputError: only some of these are set.
        RankLostError: the others do not join.
    """
    if not launched(environment):
        return SINGLE_PROCESS
    if launcher := environment.get(LAUNCHER):
        end_with_parent(int(launcher))
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if missing:
        raise InputError(
            f"WORLD_SIZE is {environment['WORLD_SIZE']}, but {', '.join(missing)} is not set.",
            expected="the environment that torchrun makes for every process.",
            next="start the run with torchrun or --procs, or unset WORLD_SIZE.",
        )
    try:
        store, rank, size = next(rendezvous("env://"))
        return Group(
            store,
            rank=rank,
            size=size,
            local_rank=int(environment.get("LOCAL_RANK", "0")),
            local_size=int(environment.get("LOCAL_WORLD_SIZE", "1")),
        )
    except (RuntimeError, ValueError) as error:
        raise RankLostError(
            f"the processes did not find each other: {first_line(error)}.",
            expected=f"{environment['WORLD_SIZE']} processes that reach "
            f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}.",
            next="check that all were started, with the same address, and that no firewall is "
            "between them.",
        ) from error


def _bytes(value: Any) -> Tensor:
    return torch.frombuffer(bytearray(pack(value)), dtype=torch.uint8)


def _value(data: Tensor) -> Any:
    return unpack(data.numpy().tobytes())

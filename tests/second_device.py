"""A second device for machines that have none: tensors that say `meta` and hold CPU numbers.

Within `second_device()` whatever is made on or moved to the device `meta` is a `DeviceTensor`. Its
numbers are computed on the CPU, so that they can be compared with those of a run on the CPU, and a
`Log` is kept of what matters on a real device:

- mismatches: operations that mix tensors of the CPU and of the device as CUDA would refuse;
- draws: random numbers drawn on the device, which would be others on each;
- waits: places where the host waits for the device: numbers that are read, copies to the CPU,
  and copies to the device that do not go through `distill_core.contracts.transfer.to_device`;
- copies: all copies from the CPU to the device;
- operations: what is queued on the device; views are none.

Each is counted by operation and by the line of the toolkit where it happens.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

DEVICE = torch.device("meta")
CPU = torch.device("cpu")
ROOT = str(Path(__file__).parents[1]) + "/"
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
# Results that the host must know: their value, or their size.
READING = {"_local_scalar_dense", "_unique2", "bincount", "equal", "is_nonzero", "masked_select",
           "nonzero", "unique_consecutive", "unique_dim", "unique_dim_consecutive"}  # fmt: skip
DRAWING = {"bernoulli", "bernoulli_", "multinomial", "native_dropout", "normal", "normal_", "rand",
           "rand_like", "randint", "randint_like", "randn", "randn_like", "random_", "randperm",
           "uniform_"}  # fmt: skip
# Others take a CPU tensor of no dimensions as a number.
STRICT = {"cat", "stack", "index_select", "gather"}
VIEWS = {"_unsafe_view", "_reshape_alias", "empty", "empty_like", "empty_strided", "lift_fresh",
         "new_empty", "new_empty_strided", "is_same_size", "_local_scalar_dense"}  # fmt: skip


@dataclass
class Log:
    """What happened on the device, counted by operation and place."""

    mismatches: Counter[str] = field(default_factory=Counter)
    draws: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        """Forget everything."""
        for counter in vars(self).values():
            counter.clear()

    def counts(self) -> dict[str, int]:
        """Return how many of each there were."""
        return {name: counter.total() for name, counter in vars(self).items()}


class DeviceTensor(Tensor):
    """A tensor of the second device; `hidden` are its numbers."""

    hidden: Tensor
    log: Log = Log()

    @staticmethod
    def __new__(cls, hidden: Tensor) -> DeviceTensor:
        """Wrap a CPU tensor."""
        made: DeviceTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            hidden.size(),
            strides=hidden.stride(),
            storage_offset=hidden.storage_offset(),
            dtype=hidden.dtype,
            device=DEVICE,
        )
        made.hidden = hidden
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        """Say what it is without reading it."""
        return f"DeviceTensor({tuple(self.shape)}, {self.dtype})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """Copy the numbers as well; a parameter stays one."""
        copied: Tensor = DeviceTensor(self.hidden.detach().clone())
        if isinstance(self, nn.Parameter):
            copied = nn.Parameter(copied, requires_grad=self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __getitem__(self, key: Any) -> Tensor:
        """Index; PyTorch would make a list a tensor without numbers."""
        parts = key if isinstance(key, tuple) else (key,)
        return super().__getitem__(
            tuple(torch.tensor(part) if isinstance(part, list) else part for part in parts)
        )

    def tolist(self) -> Any:
        """Read the numbers."""
        self.log.waits[f"tolist {_place()}"] += 1
        return self.hidden.tolist()

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do an operation on the numbers, and note it."""
        del types
        return _operate(func, args, dict(kwargs or {}), cls.log)


@contextmanager
def second_device() -> Iterator[Log]:
    """Provide the device `meta`, and tell what happens on it."""
    log, real_tensor = Log(), torch.tensor

    def tensor(data: Any, *, device: Any = None, **settings: Any) -> Tensor:
        """`torch.tensor` makes one without asking any mode."""
        made = real_tensor(data, **settings)
        return made if device is None else made.to(device)

    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with (
            warnings.catch_warnings(),
            mock.patch.object(DeviceTensor, "log", log),
            mock.patch.object(torch, "tensor", tensor),
            _Mode(),
        ):
            # Modules that load a state say of `meta` that nothing is copied; here it is.
            warnings.filterwarnings("ignore", "for .*: copying from a non-meta parameter")
            yield log
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees what is made on the device out of nothing, or of CPU tensors."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do an operation."""
        del types
        return _operate(func, args, dict(kwargs or {}), DeviceTensor.log)


def _operate(func: Any, args: Sequence[Any], kwargs: dict[str, Any], log: Log) -> Any:
    name = func._schema.name.split("::")[1]
    target = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    there = any(isinstance(each, DeviceTensor) for each in tree_iter((args, kwargs)))
    if not there and target != DEVICE:
        return func(*args, **kwargs)
    _note(func, name, args, kwargs, log)
    if target == DEVICE:
        kwargs["device"] = CPU
    hidden_args, hidden_kwargs = tree_map(_hidden, tuple(args)), tree_map(_hidden, kwargs)
    result = func(*hidden_args, **hidden_kwargs)
    written = _written(func, args, kwargs)
    if written is not None:
        return written
    if name == "_to_copy" and result is hidden_args[0]:
        result = result.clone()
    if target is not None and target != DEVICE:
        return result
    return tree_map(_shown, result)


def _note(func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], log: Log) -> None:
    if name in ("copy_", "_to_copy"):
        _note_copy(name, args, kwargs, log)
    else:
        _note_mixture(name, args, kwargs, log)
    if kwargs.get("generator") is not None or name in DRAWING:
        log.draws[f"{name} {_place()}"] += 1
    if name in READING:
        log.waits[f"{name} {_place()}"] += 1
    if not (func.is_view or name in VIEWS):
        log.operations[name] += 1


def _note_copy(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], log: Log) -> None:
    source = args[1] if name == "copy_" else args[0]
    target = args[0].device if name == "copy_" else kwargs.get("device")
    before, after = source.device, source.device if target is None else torch.device(target)
    if before == after:
        return
    if after != DEVICE:
        log.waits[f"copy {tuple(source.shape)} to the CPU {_place()}"] += 1
        return
    what = f"copy {tuple(source.shape)} to the device {_place()}"
    log.copies[what] += 1
    if "transfer.py" not in _place(skip=("memory.py",)):
        log.waits[what] += 1


def _note_mixture(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], log: Log) -> None:
    tensors = [each for each in tree_iter((args, kwargs)) if isinstance(each, Tensor)]
    others = [t for t in tensors if not isinstance(t, DeviceTensor) and (t.dim() or name in STRICT)]
    if name in INDEXING and isinstance(args[0], DeviceTensor):
        index = [each for each in args[1] if each is not None]
        if any(each.dtype in (torch.bool, torch.uint8) for each in index):
            log.waits[f"{name} by a mask {_place()}"] += 1
        for _ in (each for each in index if not isinstance(each, DeviceTensor)):
            log.copies[f"{name} by a CPU tensor {_place()}"] += 1
            log.waits[f"{name} by a CPU tensor {_place()}"] += 1
        others = [each for each in others if not any(each is part for part in index)]
    if others:
        shapes = [tuple(each.shape) for each in others]
        log.mismatches[f"{name} with {shapes} of the CPU {_place()}"] += 1


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the argument that an operation in place, or with `out`, wrote and returns."""
    returned = func._schema.returns
    if not (returned and returned[0].alias_info and returned[0].alias_info.is_write):
        return None
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info and argument.alias_info.is_write:
            return args[place] if place < len(args) else kwargs[argument.name]
    return None


def _hidden(leaf: Any) -> Any:
    return leaf.hidden if isinstance(leaf, DeviceTensor) else leaf


def _shown(leaf: Any) -> Any:
    plain = isinstance(leaf, Tensor) and not isinstance(leaf, DeviceTensor)
    return DeviceTensor(leaf) if plain else leaf


def _place(skip: Sequence[str] = ("memory.py", "transfer.py")) -> str:
    """Name the innermost line of the toolkit, or of a test of this module."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if name.startswith(ROOT) and not (name == __file__ or name.endswith(tuple(skip))):
            return f"{name[len(ROOT) :]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "?"


def on_cpu(tree: Any) -> Any:
    """Return a tree with the numbers of its tensors; this is no wait."""
    return tree_map(lambda leaf: _hidden(leaf).detach() if isinstance(leaf, Tensor) else leaf, tree)

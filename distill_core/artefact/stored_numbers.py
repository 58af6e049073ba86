"""Numbers of a component in a stored type of fewer bits, without code of its own.

They stay float32 numbers that are trained; the component works with their stored values, and the
gradient passes as if they were the same (straight-through, Bengio et al. 2013).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from distill_core.artefact.stored_types import (
    BITS,
    Scale,
    channel_axis,
    codes,
    damped,
    fit,
    pack,
    quantised,
    quantised_by,
    unpack,
)
from distill_core.contracts.components import InStoredType


class StoredNumbers(InStoredType):
    """A component whose numbers are seen as they are stored; subclasses have its contract.

    Stored in the type are its parameters, or where it has none its persistent buffers of floating
    point. Other buffers, such as masks, stay as they are. Scales are fitted after every update, or
    at the start alone and then learned, the logarithm of their step.

    Args:
        inner: the component.
        kind: bfloat16, uint8, uint4 or uint2.
        scales: channel: tensors have a scale for each channel, where that has enough numbers;
            tensor: one; learned: those of channels, learned.
    """

    def __init__(self, inner: nn.Module, kind: str, scales: str = "channel") -> None:
        super().__init__()
        self.inner, self.kind, self.scales = inner, kind, scales
        self.levels = nn.ParameterDict()
        self._scales: dict[str, Scale] = {}
        if scales == "learned" and kind in BITS:
            for name, scale in self._fitted().items():
                self.levels[_key(name, "low")] = scale.low
                self.levels[_key(name, "step")] = scale.step.log()
        self.register_load_state_dict_post_hook(_fit_again)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def fit(self) -> None:
        """Fit the scales to the numbers, those that are to be learned too."""
        self._scales = self._fitted()
        if self.levels:
            for name, scale in self._scales.items():
                self.levels[_key(name, "low")].copy_(scale.low)
                self.levels[_key(name, "step")].copy_(scale.step.log())

    def refit(self) -> None:
        """Fit the scales to the trained numbers, unless they are learned."""
        if not self.levels:
            self.fit()

    def _fitted(self) -> dict[str, Scale]:
        bits = BITS.get(self.kind)
        numbers = {} if bits is None else self._numbers()
        return {n: fit(each.detach(), bits or 0, self._axis(each)) for n, each in numbers.items()}

    def packed(self) -> dict[str, Tensor]:
        """Return the state as it is stored: codes in bytes, `low` and `step` beside them."""
        numbers, bits = self._numbers(), BITS.get(self.kind)
        found: dict[str, Tensor] = {}
        for name, tensor in self.inner.state_dict().items():
            if name not in numbers:
                found[name] = tensor.cpu()
            elif bits is None:
                found[name] = tensor.to(torch.bfloat16).cpu()
            else:
                scale = self._scale(name, tensor)
                found[name] = pack(codes(tensor.float(), scale, bits).cpu(), bits)
                found |= {
                    f"{name}.low": scale.low.flatten().cpu(),
                    f"{name}.step": scale.step.flatten().cpu(),
                }
        return found

    def shapes(self) -> dict[str, list[int]]:
        """Return the shapes of the tensors that are stored in the type."""
        return {name: list(tensor.shape) for name, tensor in self._numbers().items()}

    def _numbers(self) -> dict[str, Tensor]:
        parameters: dict[str, Tensor] = dict(self.inner.named_parameters())
        return parameters or {
            name: each for name, each in self.inner.state_dict().items() if each.is_floating_point()
        }

    def _axis(self, tensor: Tensor) -> int | None:
        return None if self.scales == "tensor" else channel_axis(tuple(tensor.shape))

    def _scale(self, name: str, tensor: Tensor) -> Scale:
        if self.levels:
            low, step = (self.levels[_key(name, part)].detach() for part in Scale._fields)
            return Scale(low, step.exp())
        if name not in self._scales:
            self.fit()
        scale = self._scales[name]
        if scale.low.device != tensor.device:
            scale = Scale(*(part.to(tensor.device) for part in scale))
            self._scales[name] = scale
        return scale

    def _value(self, name: str, tensor: Tensor) -> Tensor:
        """Return the stored value of a tensor, whose gradient goes to the tensor unchanged.

        With learned scales it is that of LSQ, for them too, over the root of how many numbers a
        scale has, times the largest code.
        """
        if self.levels:
            low, log_step = (self.levels[_key(name, part)] for part in Scale._fields)
            bits = BITS[self.kind]
            factor = (tensor.numel() / low.numel() * (2**bits - 1)) ** -0.5
            scale = Scale(damped(low, factor), damped(log_step, factor).exp())
            return quantised_by(tensor, scale, bits)
        with torch.no_grad():
            if self.kind == "bfloat16":
                value = tensor.to(torch.bfloat16).to(tensor.dtype)
            else:
                scale = self._scale(name, tensor)
                value = quantised(tensor.float(), scale, BITS[self.kind]).to(tensor.dtype)
        return value + (tensor - tensor.detach())  # the stored value exactly: the rest is zero

    @contextmanager
    def stored_values(self) -> Iterator[None]:
        """Let the component see stored values in the place of its numbers."""
        numbers = self._numbers()
        values = {name: self._value(name, tensor) for name, tensor in numbers.items()}
        homes = {name: _home(self.inner, name) for name in numbers}
        kept = {name: table[key] for name, (table, key) in homes.items()}
        try:
            for name, (table, key) in homes.items():
                table[key] = values[name]
            yield
        finally:
            for name, (table, key) in homes.items():
                table[key] = kept[name]


def unpacked(
    packed: Mapping[str, Tensor], types: Mapping[str, str], shapes: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """Return states of components from what `StoredNumbers.packed` returned.

    Args:
        packed: the tensors.
        types: the stored type of those that have one, by name.
        shapes: what `StoredNumbers.shapes` returned.
    """
    scales = {f"{name}.{part}" for name in types for part in Scale._fields}
    return {
        name: _unpacked(packed, name, types[name], tuple(shapes[name])) if name in types else tensor
        for name, tensor in packed.items()
        if name not in scales
    }


def _unpacked(packed: Mapping[str, Tensor], name: str, kind: str, shape: tuple[int, ...]) -> Tensor:
    if kind == "bfloat16":
        return packed[name].float()
    low, step = packed[f"{name}.low"], packed[f"{name}.step"]
    sides = [1] * len(shape)
    if len(low) > 1:
        sides[channel_axis(shape) or 0] = len(low)
    whole = unpack(packed[name], BITS[kind], shape).float()
    return low.view(sides) + whole * step.view(sides)


def _key(name: str, part: str) -> str:
    """Return the name of a learned scale; those of parameters have no dots."""
    return f"{name.replace('.', '/')}/{part}"


def _home(module: nn.Module, name: str) -> tuple[dict[str, Tensor | None], str]:
    """Return the table of a module that has a tensor, and its key."""
    path, _, key = name.rpartition(".")
    owner = module.get_submodule(path)
    table: dict[str, Tensor | None] = (
        owner._parameters if key in owner._parameters else owner._buffers  # type: ignore[assignment]
    )
    return table, key


def _fit_again(module: nn.Module, incompatible: object) -> None:
    """Fit scales to a state that was loaded, which has those that are learned."""
    del incompatible
    assert isinstance(module, StoredNumbers)
    module.refit()

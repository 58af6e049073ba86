"""What the conformance checks have in common: demands, repetition, equality, finite differences."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isnan
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from distill_core.contracts.streams import seeded

Result = TypeVar("Result")


def demand(condition: bool, who: str, fault: str) -> None:
    """Raise an AssertionError with the sentence "`who` `fault`." unless the condition holds."""
    if not condition:
        raise AssertionError(f"{who} {fault}.")


def repeatable(who: str, what: str, action: Callable[[], Result]) -> Result:
    """Run an action twice, under different global random states, and return the first result.

    Raises:
        AssertionError: the results are not equal bit for bit, or the second call changed the
            global random state of torch, numpy or Python. (The first may: it imports libraries.)
    """
    results = []
    for seed in (1, 2):
        with _global_states(seed) as untouched:
            results.append(action())
            demand(
                seed == 1 or untouched(),
                who,
                f"changes the global random state during {what}; "
                "draw from the generator that is given",
            )
    demand(
        equal(*results),
        who,
        f"gives two different results for {what} from equal generators; "
        "draw from the generator that is given, not from global random state",
    )
    return results[0]


@contextmanager
def _global_states(seed: int) -> Iterator[Callable[[], bool]]:
    """Seed all global random states, put them back at the end; yields "are they untouched?"."""
    before = _read_states()
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the global state is what is watched here)
    random.seed(seed)
    seeded_states = _read_states()
    try:
        yield lambda: equal(seeded_states, _read_states())
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        random.setstate(before[2])


def _read_states() -> tuple[Tensor, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002


def equal(a: Any, b: Any) -> bool:
    """Compare trees of tensors, arrays, numbers and text, bit for bit; NaN equals NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        same = a.shape == b.shape and a.dtype == b.dtype
        return same and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str):
        return len(a) == len(b) and all(map(equal, a, b))
    both_nan = isinstance(a, float) and isinstance(b, float) and isnan(a) and isnan(b)
    return both_nan or bool(a == b)


def close(a: Tensor, b: Tensor) -> bool:
    """Compare tensors up to rounding."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def perturb(module: nn.Module, scale: float, *, seed: int) -> None:
    """Add noise to every parameter, as an update might."""
    generator = seeded(seed, "perturb")
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_(scale * noise.to(parameter.dtype))


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copy the state of a module."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def check_parameters(who: str, module: nn.Module) -> None:
    """Demand parameters on the CPU, in float32, and a finite state."""
    for name, parameter in module.named_parameters():
        demand(parameter.device.type == "cpu", who, f"makes parameter '{name}' off the CPU")
        demand(parameter.dtype == torch.float32, who, f"makes parameter '{name}' not in float32")
    for name, tensor in module.state_dict().items():
        demand(
            bool(torch.isfinite(tensor).all()), who, f"has numbers in '{name}' that are not finite"
        )


def check_gradient(who: str, module: nn.Module, function: Callable[[], Tensor]) -> None:
    """Demand that the gradient of a module's output agrees with central differences.

    Args:
        who: the component, for the sentence.
        module: in float64; its trained parameters are moved and put back.
        function: the output, any shape.
    """
    parameters = [each for each in module.parameters() if each.requires_grad]
    output = function()
    demand(
        output.dtype == torch.float64,
        who,
        f"gives {output.dtype} where parameters and input are float64; do not name a float type",
    )
    demand(output.requires_grad, who, "gives an output that is cut off from its parameters")
    cotangent = torch.randn(output.shape, generator=seeded(0, "cotangent"), dtype=torch.float64)
    gradients = torch.autograd.grad((output * cotangent).sum(), parameters, allow_unused=True)
    found = [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)
    ]
    finite = all(bool(torch.isfinite(each).all()) for each in found)
    demand(finite, who, "has a gradient that is not finite")
    demand(any(bool(each.any()) for each in found), who, "has a gradient of nothing but zeros")
    generator = seeded(0, "direction")
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(found, direction, strict=True))
    measured = _central_difference(
        parameters, direction, lambda: float((function() * cotangent).sum())
    )
    demand(
        abs(slope - measured) <= 1e-5 * max(1.0, abs(measured)),
        who,
        f"has the slope {slope:.8g} by its gradient but {measured:.8g} by central differences",
    )


@torch.no_grad()
def _central_difference(
    parameters: Sequence[nn.Parameter], direction: Sequence[Tensor], value: Callable[[], float]
) -> float:
    step = 1e-6
    values = []
    for shift in (step, -2 * step, step):
        for parameter, along in zip(parameters, direction, strict=True):
            parameter.add_(shift * along)
        values.append(value())
    return (values[0] - values[1]) / (2 * step)

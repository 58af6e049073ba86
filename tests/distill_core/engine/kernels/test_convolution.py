"""Convolutions, tangents and adjoints against PyTorch's in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv2d

from distill_core.contracts.streams import seeded
from distill_core.engine.kernels import winograd
from distill_core.engine.kernels.blocks import Convolutions
from distill_core.engine.kernels.convolution import Direct
from distill_core.engine.kernels.winograd import Winograd

BOUNDS = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def reference(a: Tensor, weight: Tensor) -> Tensor:
    return conv2d(a.permute(0, 3, 1, 2), weight, padding=1).permute(0, 2, 3, 1)


def close(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> None:
    assert found.shape == wanted.shape
    error = float((found.double() - wanted).norm() / wanted.norm())
    assert error < BOUNDS[dtype]


def check(
    dtype: torch.dtype,
    n: int,
    hw: tuple[int, int],
    channels: tuple[int, int],
    convolution: Convolutions | None = None,
) -> None:
    """All four functions; the references are derivatives by autograd, from the same numbers."""
    convolution = convolution or Winograd()
    inputs, outputs = channels
    generator = seeded(n, hw, channels)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype).double()

    both, qp = drawn(2 * n, *hw, inputs), drawn(2 * n, *hw, outputs)
    # Parameters are float32 beside bfloat16 activations, but must survive the rounding here.
    weight, tweight = drawn(outputs, inputs, 3, 3), drawn(outputs, inputs, 3, 3)
    parameters = torch.float32 if dtype == torch.bfloat16 else dtype
    given_both, given_qp = both.to(dtype), qp.to(dtype)
    given_weights = weight.to(parameters, copy=True), tweight.to(parameters, copy=True)

    a, ta, w, tw = (t.requires_grad_() for t in (both[:n], both[n:], weight, tweight))
    z, tz = reference(a, w), reference(ta, w) + reference(a, tw)
    values = convolution.tangent_forward(given_both, *given_weights)
    close(convolution.forward(given_both[:n], given_weights[0]), z.detach(), dtype)
    close(values.z, z.detach(), dtype)
    close(values.tz, tz.detach(), dtype)

    q, p = qp[:n], qp[n:]
    da, dweight = torch.autograd.grad((z * p).sum(), (a, w), retain_graph=True)
    found_a, found_weight = convolution.backward(given_qp[n:], given_both[:n], given_weights[0])
    close(found_a, da, dtype)
    close(found_weight, dweight, dtype)

    Q, P, dweight = torch.autograd.grad((z * q).sum() + (tz * p).sum(), (a, ta, w))
    cotangents, found_weight = convolution.tangent_backward(given_qp, given_both, *given_weights)
    close(cotangents.P, P, dtype)
    close(cotangents.Q, Q, dtype)
    close(found_weight, dweight, dtype)


@given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 20), st.integers(1, 35)),
)
@settings(max_examples=25)
def test_any_size_is_right_in_double_precision(
    n: int, hw: tuple[int, int], channels: tuple[int, int]
) -> None:
    for convolution in (Winograd(), Direct()):
        check(torch.float64, n, hw, channels, convolution)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("hw", [(16, 16), (7, 13)])
def test_every_type_keeps_its_precision(dtype: torch.dtype, hw: tuple[int, int]) -> None:
    check(dtype, 5, hw, (64, 48))


@pytest.mark.parametrize("dtype", BOUNDS)
def test_pytorchs_convolutions_keep_theirs(dtype: torch.dtype) -> None:
    check(dtype, 3, (7, 13), (17, 33), Direct())


@pytest.mark.parametrize("multiplies", [True, False])
def test_half_precision_is_right_with_and_without_a_processor_that_has_it(
    multiplies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "multiplies_bfloat16", lambda: multiplies)
    check(torch.bfloat16, 3, (9, 6), (17, 33))


def test_more_threads_than_one_are_right() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        check(torch.float64, 2, (9, 6), (17, 33))
    finally:
        torch.set_num_threads(before)

"""Methods that unroll nothing: kernels and autograd leave the same gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from distill_core.builtin.algorithms.matching.distributions import DistributionMatching
from distill_core.builtin.algorithms.matching.options import DmOptions
from distill_core.builtin.algorithms.regression.frepo import Frepo
from distill_core.builtin.algorithms.regression.options import FrepoOptions, RcigOptions
from distill_core.builtin.algorithms.regression.rcig import Rcig
from distill_core.builtin.backbones.convnet import ConvNetOptions
from distill_core.contracts.algorithm import Algorithm
from distill_core.contracts.streams import Streams
from distill_core.engine.engine import Engine
from registry import check_options
from tests.distill_core.builtin.matching_sets import poster_set, real_data, task

METHODS: dict[str, tuple[Callable[..., Algorithm], Any, dict[str, Any]]] = {
    "frepo": (Frepo, FrepoOptions, {"pool": 1, "real_batch": 30}),
    "rcig": (
        Rcig,
        RcigOptions,
        {"pool": 1, "real_batch": 30, "inner_steps": 5, "inverse_steps": 5, "inner_lr": 0.01},
    ),
    "dm": (DistributionMatching, DmOptions, {"real_batch": 8}),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("microbatch", [None, 5])
def test_two_outer_steps_are_the_same(method: str, microbatch: int | None) -> None:
    make, options, settings = METHODS[method]
    found = []
    for kernels in (False, True):
        real = real_data()
        synthetic = poster_set(real, "soft")
        engine = Engine(kernels=kernels, real_chunk=11, microbatch=microbatch)
        checked = check_options(options, settings, where="algo")
        algorithm = make(checked, task=task(real, ConvNetOptions(width=5), engine))
        rng = Streams(0)
        for step in range(2):  # the second uses a network that the first has trained
            metrics = algorithm.outer_step(synthetic, step=step, rng=rng)
        grads = {name: [p.grad for p in ps] for name, ps in synthetic.groups().items()}
        found.append((metrics["loss"], grads))
    (loss, wanted), (other_loss, given) = found
    assert other_loss == pytest.approx(loss, rel=1e-8)
    assert wanted["data"][0] is not None
    for name, gradients in wanted.items():
        for one, other in zip(gradients, given[name], strict=True):
            if one is None:
                assert other is None
            else:
                assert other is not None
                assert torch.allclose(other, one, rtol=1e-6, atol=1e-9 * float(one.abs().max()))

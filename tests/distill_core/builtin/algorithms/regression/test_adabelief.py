"""AdaBelief against its formula in plain numbers."""

from __future__ import annotations

import math

import pytest
import torch

from distill_core.builtin.algorithms.regression.adabelief import AdaBelief
from distill_core.system.state_tree import copied


def test_it_is_the_published_formula() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = AdaBelief([{"params": [parameter], "lr": 0.1}])
    value, mean, spread = 1.0, 0.0, 0.0
    for step, grad in enumerate((0.5, -0.2, 0.7), 1):
        parameter.grad = torch.tensor([grad], dtype=torch.float64)
        optimizer.step()
        mean = 0.9 * mean + 0.1 * grad
        spread = 0.999 * spread + 0.001 * (grad - mean) ** 2 + 1e-16
        root = math.sqrt(spread / (1 - 0.999**step)) + 1e-16
        value -= 0.1 * mean / (1 - 0.9**step) / root
        assert float(parameter.detach()) == pytest.approx(value, rel=1e-12)


def test_a_parameter_without_gradient_stays_and_the_state_goes_on() -> None:
    def run(steps: range, made: tuple[torch.nn.Parameter, AdaBelief]) -> None:
        for step in steps:
            made[0].grad = torch.tensor([1.0, -2.0]) * (step + 1)
            made[1].step()

    def start() -> tuple[torch.nn.Parameter, AdaBelief]:
        parameter = torch.nn.Parameter(torch.ones(2))
        return parameter, AdaBelief([parameter, torch.nn.Parameter(torch.ones(1))], lr=0.01)

    straight, other = start(), start()
    run(range(2), straight)
    other[0].data.copy_(straight[0].data)
    other[1].load_state_dict(copied(straight[1].state_dict()))
    run(range(2, 4), straight)
    run(range(2, 4), other)
    assert torch.equal(straight[0], other[0])
    assert float(other[1].param_groups[0]["params"][1].detach()) == 1

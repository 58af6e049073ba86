"""Hypergradients that are refused."""

from __future__ import annotations

import pytest
import torch

from distill_core.contracts.algorithm import HypergradientError
from distill_core.run.checks import check_hypergradients
from distill_core.run.loop import OuterLoop
from distill_core.run.state import trained_groups
from tests.distill_core.small_run import small_assembly


def test_a_hypergradient_that_is_not_finite_stops_before_the_update(tmp_path):
    assembly = small_assembly()
    before = {name: t.clone() for name, t in assembly.synthetic.state_dict().items()}
    parameter = next(assembly.synthetic.representation.parameters())
    parameter.register_hook(lambda gradient: gradient * float("nan"))
    loop = OuterLoop(assembly, tmp_path)
    with pytest.raises(HypergradientError, match="group 'data' in outer step 1 is not finite"):
        loop.run()
    for name, tensor in assembly.synthetic.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_group_without_hypergradient_is_an_error_in_the_first_step_only():
    assembly = small_assembly()
    groups = trained_groups(assembly)
    assert set(groups) == {"data", "labels"}
    for parameter in groups["data"]:
        parameter.grad = torch.ones_like(parameter)
    with pytest.raises(HypergradientError) as caught:
        check_hypergradients(groups, step=0, config=assembly.config)
    assert str(caught.value) == (
        "algorithm 'ratbptt' sends no hypergradient to group 'labels'.\n"
        "Expected a gradient in every group that is learned.\n"
        "Next: choose a labeler with fixed labels, or an algorithm that trains them."
    )
    check_hypergradients(groups, step=1, config=assembly.config)

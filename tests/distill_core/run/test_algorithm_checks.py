from __future__ import annotations

import pytest
import torch
from torch import nn

from distill_core.run.algorithm_checks import check_metrics, check_optimizer, check_state
from registry import ContractError

WHO = "algorithm 'own' of own (own 2)"


def test_an_optimizer_that_asks_for_losses_is_refused_before_its_first_step():
    parameter = nn.Parameter(torch.zeros(2))
    groups = {"data": [parameter]}
    with pytest.raises(ContractError, match=r"^algorithm 'own' .* LBFGS from `outer_optimizer`"):
        check_optimizer(WHO, torch.optim.LBFGS([parameter]), groups)
    for optimizer in (torch.optim.SGD([parameter], lr=1), torch.optim.Adam([parameter])):
        check_optimizer(WHO, optimizer, groups)


def test_a_number_that_no_float_holds_is_refused():
    check_metrics(WHO, {"loss": 10**300})
    with pytest.raises(ContractError, match=r"^algorithm 'own' of own \(own 2\) returns "):
        check_metrics(WHO, {"loss": 10**400})


def test_a_state_that_holds_itself_is_refused():
    state = {"seen": []}
    state["seen"].append(state)
    with pytest.raises(ContractError, match=r"^algorithm 'own' .* its state holds itself"):
        check_state(WHO, state)

"""A network of the user's own: what does not fit is refused, and what fits stays as it was."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from distill_core.training.check_network import check_network
from registry import InputError

IMAGES = torch.zeros(5, 3, 8, 8)


def flat(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))


@pytest.mark.parametrize(
    ("network", "what", "next_step"),
    [
        (flat(192, 5), r"gives \(2, 5\) for 2 images", "give its last layer 4 outputs"),
        (flat(64, 4), "does not take these images of 3x8x8", "3 input channel.* of 8x8 pixels"),
        (nn.Conv2d(1, 4, 3), "does not take these images of 3x8x8", "3 input channel"),
        (nn.Conv2d(3, 4, 3), r"gives \(2, 4, 6, 6\)", "last layer 4 outputs"),
        (nn.Flatten(), "no parameters", "pass another one"),
        (flat(192, 4).double(), "does not take these images", r"network\.float\(\)"),
        (nn.Linear, "the network is the class Linear", "network itself"),
        (None, "the network is None", "network itself"),
        (flat(192, 4).requires_grad_(False), "are frozen", r"requires_grad_\(True\)"),
    ],
)
def test_what_does_not_fit_is_refused(network: nn.Module, what: str, next_step: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        check_network(network, IMAGES, 4)
    assert re.search(next_step, caught.value.next)


def test_a_network_that_fits_stays_as_it_was() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), flat(192, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    network[1].eval()
    check_network(network, IMAGES + 1, 4)
    assert [each.training for each in (network, *network[:2])] == [True, True, False]
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[n]) for n, value in network.state_dict().items())

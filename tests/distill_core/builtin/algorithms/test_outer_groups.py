"""Where all items are whole images, they are not decoded once more to count who covers a pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill_core.builtin.algorithms.outer_groups import finish_gradients
from distill_core.contracts.geometry import Boxes
from tests.distill_core.small_run import small_assembly

SHORT = {"dm": {}, "bptt": {"steps": 2, "batch": 8}, "mtt": {"syn_steps": 2, "experts": 1}}


@pytest.mark.parametrize("algo", SHORT)
def test_items_of_a_decoder_are_decoded_once_in_an_outer_step(
    algo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"points": 4, "fit_steps": 0}
    assembly = small_assembly(
        repr="gsdd",
        labeler="onehot",
        algo=algo,
        ipc=1,
        options={"repr": small, "algo": SHORT[algo]},
    )
    representation, decoded = assembly.synthetic.representation, []
    expand = representation.expand

    def counted(boxes: Boxes) -> Tensor:
        decoded.append(len(boxes))
        return expand(boxes)

    monkeypatch.setattr(representation, "expand", counted)
    assembly.algorithm.outer_step(assembly.synthetic, step=0, rng=assembly.rng)
    assert len(decoded) == 1


def test_gradients_of_mixtures_stay_as_they_are() -> None:
    """The sum of all items is no count of them, also where it happens to be positive."""
    assembly = small_assembly(
        repr="basis", labeler="onehot", algo="dm", options={"repr": {"bases": 1}}
    )
    synthetic = assembly.synthetic
    for parameter in synthetic.parameters():
        parameter.data.abs_()
        parameter.grad = torch.ones_like(parameter)
    assert all(bool((each > 0).all()) for each in synthetic.coverage())
    finish_gradients(synthetic, normalize=True)
    assert all(bool((each.grad == 1).all()) for each in synthetic.parameters())

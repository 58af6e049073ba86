from __future__ import annotations

import json

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from distill_core.contracts.data import Split
from distill_core.contracts.recipes import Recipe
from distill_core.evaluation.by_class import ByClass
from distill_core.evaluation.evaluate import Result
from distill_core.evaluation.judge import table
from distill_core.training.train import accuracy, right_by_class

NAMES = ("ant", "bee", "emu")


class _Says(nn.Module):
    """A network whose logits are its input's pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    labels = torch.tensor([0] * 12 + [1] * 3)
    said = torch.randint(3, (15,), generator=torch.Generator().manual_seed(0))
    split = Split(nn.functional.one_hot(said, 3).float().view(15, 1, 1, 3), labels)
    right = right_by_class(_Says(), split, 3)
    assert right == [int((said[:12] == 0).sum()), int((said[12:] == 1).sum()), 0]
    assert sum(right) / 15 == accuracy(_Says(), split)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = balanced_accuracy_score(labels, said)
    found = ByClass.of(NAMES, labels, [right])
    assert found.balanced == pytest.approx(expected)
    assert found.accuracies[2] is None
    assert found.images == (12, 3, 0)


def test_it_is_the_mean_over_networks() -> None:
    found = ByClass.of(NAMES[:2], torch.tensor([0, 0, 1, 1]), [[2, 0], [1, 1]])
    assert found.accuracies == (0.75, 0.25)
    assert found.balanced == 0.5
    assert not found.is_unbalanced


def _result(images: tuple[int, ...]) -> Result:
    by_class = ByClass(NAMES[:2], images, (0.9, 0.1))
    return Result((0.8,), {20: (0.8,)}, Recipe(steps=20), 1.5, by_class=by_class)


def test_it_survives_json() -> None:
    before = _result((7, 1))
    plain = json.loads(json.dumps(before.as_dict()))
    assert plain["balanced"] == 0.5
    assert plain["by_class"][1] == {"class": "bee", "images": 1, "accuracy": 0.1}
    assert Result.from_dict(plain) == before
    del plain["by_class"]
    assert Result.from_dict(plain).by_class is None


def test_it_stands_beside_the_plain_one_where_classes_differ_in_size() -> None:
    assert "balanced 50.00 %" in table({"distilled": _result((7, 1))})
    assert "balanced" not in table({"distilled": _result((7, 7))})

from __future__ import annotations

import pytest
import torch

from distill_core.run.loop import OuterLoop
from registry import ContractError
from tests.distill_core.small_run import small_assembly


def _hide(part, when, make, monkeypatch):
    """Plant numbers outside of the state of a class when `when` is called; `make` returns them."""
    called = getattr(part, when)

    def planting(self, *args, **kwargs):
        found = called(self, *args, **kwargs)
        make(self)
        return found

    monkeypatch.setattr(part, when, planting)


def _attribute(module):
    module.hidden = torch.full((1,), 0.5)


def _buffer(module):
    module.register_buffer("hidden", torch.full((1,), 0.5), persistent=False)


@pytest.mark.parametrize("stored", ["float32", "uint8"])
@pytest.mark.parametrize("make", [_attribute, _buffer])
def test_images_of_numbers_that_are_not_counted_are_refused_at_the_start(make, stored, monkeypatch):
    """A pixel budget, and a file, that had everything but these numbers passed all checks."""
    from distill_core.builtin.representations.images import Images

    expand = Images.expand
    _hide(Images, "reset", make, monkeypatch)
    monkeypatch.setattr(
        Images, "expand", lambda self, boxes: expand(self, boxes) + getattr(self, "hidden", 0)
    )
    with pytest.raises(ContractError, match=r"gives other images .* in no budget") as caught:
        small_assembly(repr="images", ipc=1, options={"repr": {"stored": stored}})
    assert caught.value.what.startswith("representation 'images' of ")


def test_labels_of_numbers_that_are_not_counted_are_refused_at_the_start(monkeypatch):
    from podd_plugin.poddl import Poddl

    labels = Poddl.labels

    def mixed(self, *args):
        return (labels(self, *args) + getattr(self, "hidden", 0) / 6) / (
            1 + getattr(self, "hidden", 0)
        )

    _hide(Poddl, "start", _attribute, monkeypatch)
    monkeypatch.setattr(Poddl, "labels", mixed)
    with pytest.raises(ContractError, match=r"^labeler 'poddl' .* gives other labels .* no budget"):
        small_assembly()


def test_numbers_that_appear_beside_the_state_later_are_refused_in_the_first_step(
    monkeypatch, tmp_path
):
    from podd_plugin.poster import Poster

    expand = Poster.expand
    _hide(Poster, "project", _attribute, monkeypatch)
    monkeypatch.setattr(
        Poster, "expand", lambda self, boxes: expand(self, boxes) + getattr(self, "hidden", 0)
    )
    loop = OuterLoop(small_assembly(), tmp_path)
    with pytest.raises(ContractError, match=r"^representation 'poster' .* in no budget"):
        loop.run()
    assert loop.step == 0


def test_a_state_that_reset_has_given_another_form_is_refused(monkeypatch):
    from podd_plugin.poster import Poster

    def lazy(self):
        self.register_buffer("late", torch.zeros(1))

    _hide(Poster, "reset", lazy, monkeypatch)
    with pytest.raises(ContractError, match=r"^representation .* than when it was made: late"):
        small_assembly()

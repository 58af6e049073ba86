"""What is known of a card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill_core.system import cards
from distill_core.system.cards import Card, card_of, driver, has_code, room
from tests.distill_core.fake_card import fake_card

# The published wheels of PyTorch 2.14 for CUDA 13.0.
WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.mark.parametrize(
    ("capability", "built_for", "expected"),
    [
        ((7, 5), WHEEL, True),
        ((7, 0), WHEEL, False),  # a V100
        ((8, 9), WHEEL, True),  # an L40 runs what was built for 8.6
        ((9, 0), WHEEL, True),
        ((12, 1), WHEEL, True),
        ((11, 0), WHEEL, False),
        ((9, 0), ["sm_90a"], True),
        ((10, 3), ["sm_100f"], True),
        ((10, 3), ["sm_100a"], False),
        ((12, 0), ["sm_80", "compute_80"], True),  # the driver translates
        ((7, 0), ["compute_80"], False),
        ((3, 5), [], True),
    ],
)
def test_which_code_runs_on_which_card(
    capability: tuple[int, int], built_for: list[str], expected: bool
) -> None:
    assert has_code(capability, built_for) is expected


@pytest.mark.parametrize(("capability", "has"), [((7, 5), False), ((8, 0), True), ((12, 0), True)])
def test_what_a_card_multiplies_in(
    capability: tuple[int, int], has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_card(monkeypatch, name="a card", capability=capability)
    found = card_of(torch.device("cuda"))
    assert found == Card("a card", capability, 80 * 2**30)
    assert found.tf32 is found.bfloat16 is has


def test_what_pytorch_holds_unused_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_card(monkeypatch, free=5, total=100, reserved=40, allocated=10)
    assert room(torch.device("cuda")) == (35, 100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  (x)"
            "  Wed Aug 27 2025\nGCC version:  gcc version 12.2.0\n",
            "580.82.07",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54  Tue\n", "535.54"),
        ("something else\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_driver(
    text: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "version"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(cards, "DRIVER", file)
    assert driver() == expected

"""What the record says of the hardware; the rest is looked at in whole runs."""

from __future__ import annotations

import pytest
import torch

from distill_core.run.manifest import manifest
from distill_core.system.versions import hardware
from tests.distill_core.fake_card import fake_card
from tests.distill_core.small_run import installed, small_assembly


def test_a_card_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_core.system.versions.driver", lambda: "580.82.07")
    fake_card(monkeypatch)
    found = hardware(torch.device("cuda"))
    processor = hardware(torch.device("cpu"))["name"]
    expected = {
        "device": "cuda",
        "name": "NVIDIA H100",
        "capability": "9.0",
        "memory": 80 * 2**30,
        "driver": "580.82.07",
        "cuda": "13.0",
        "cudnn": 92400,
        "processor": processor,
    }
    assert {name: found[name] for name in expected} == expected


def test_how_a_card_computes_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    assembly = small_assembly(tf32=True)
    assert "arithmetic" not in manifest(assembly, installed(), step=0, seconds=0.0)["hardware"]
    monkeypatch.setattr("distill_core.run.manifest.arithmetic_of", lambda config, device: "rounded")
    record = manifest(assembly, installed(), step=0, seconds=0.0)
    assert record["hardware"]["arithmetic"] == "rounded"

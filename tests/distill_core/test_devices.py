"""Names of devices."""

from __future__ import annotations

import pytest
import torch

from distill_core.devices import pick_device
from registry import InputError


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cpu", "cuda"}
    with pytest.raises(InputError, match="device 'gpu' cannot be used"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device 'cuda' cannot be used"):
            pick_device("cuda")

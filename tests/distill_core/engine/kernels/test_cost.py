"""What a gradient and a product launch and move on CUDA, counted without a GPU.

On fake CUDA tensors, which have shapes and layouts and nothing else, at the published setting.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.network import FlatModel
from distill_core.contracts.synthetic import Batch
from distill_core.engine.convnet import ConvNetLoss
from distill_core.engine.kernels.torch_blocks import TorchBlocks
from distill_core.system.memory import PeakBytes
from tests.distill_core.engine.kernels.count_ops import CountOps

pytest.importorskip("triton")
from distill_core.engine.kernels import triton_functions


@pytest.mark.parametrize(
    ("what", "images", "kernels", "gigabytes", "peak"),
    [
        ("evaluate", 96, 37, 0.44, 122),
        ("product", 96, 60, 1.05, 316),
        ("evaluate", 250, 37, 1.11, 310),
    ],
)
def test_a_call_stays_within_its_budget(
    *,
    what: str,
    images: int,
    kernels: int,
    gigabytes: float,
    peak: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kernels, 1e9 bytes moved, and 1e6 bytes alive at the worst moment."""
    ops = CountOps()

    def launch(kernel: Any, programs: int, *tensors: Tensor | int, **constants: Any) -> None:
        assert programs > 0
        ops.note(kernel.__name__, [each for each in tensors if isinstance(each, Tensor)])

    monkeypatch.setattr(triton_functions, "_run", launch)
    spec = DataSpec("made", tuple("abcdefghij"), (3, 32, 32), ())
    with FakeTensorMode(), torch.device("cuda"):
        net = ConvNet(ConvNetOptions(width=128, depth=3), spec=spec)
        model, structure = FlatModel(net), net.conv_blocks()
        assert structure is not None
        blocks = TorchBlocks(torch.float32, triton_functions.FUSED)
        loss = ConvNetLoss(model, structure, blocks=blocks)
        batch = Batch(torch.empty(images, 3, 32, 32), torch.empty(images, 10))
        arguments = (model.theta, batch, *([model.theta] if what == "product" else []))
        with PeakBytes() as memory, ops:
            found = getattr(loss, what)(*arguments)
    assert found[0] is not None
    assert sum(ops.kernels.values()) <= kernels
    assert sum(ops.bytes.values()) <= gigabytes * 1e9
    assert memory.peak <= peak * 1e6
    assert ops.kernels["convolution"] == (6 if what == "product" else 3)

"""Captured functions, by a stand-in for CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_core.contracts.synthetic import Batch
from distill_core.engine.graphs import capture as graphs
from distill_core.engine.graphs.capture import MOST_SHAPES, WARM_UPS, CudaCapture, Graphs
from distill_core.engine.graphs.loss import GraphedLoss
from distill_core.testing.small import small_data
from tests.distill_core.engine.small import convnet_loss
from tests.distill_core.engine.traced_graphs import Traced


def double(x: Tensor, y: Tensor) -> Sequence[Tensor]:
    return 2 * x, x + y


def test_a_graph_replays_on_new_arguments_and_gives_tensors_of_its_own() -> None:
    capture = Traced()
    made = Graphs(capture)
    first = made.call("double", double, torch.ones(3), torch.zeros(3))
    second = made.call("double", double, torch.arange(3.0), torch.ones(3))
    assert [each.tolist() for each in second] == [[0, 2, 4], [1, 2, 3]]
    assert [each.tolist() for each in first] == [[2, 2, 2], [1, 1, 1]]
    assert (capture.captures, capture.replays) == (1, 2)


def test_other_shapes_types_names_and_arithmetic_are_captured_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    capture = Traced()
    made = Graphs(capture)
    x = torch.ones(3)
    made.call("double", double, x, x)
    made.call("double", double, x[:2], x[:2])
    made.call("double", double, x.double(), x.double())
    made.call("twice", double, x, x)
    monkeypatch.setattr(graphs, "arithmetic", lambda: "tf32")
    made.call("double", double, x, x)
    assert capture.captures == capture.replays == 5


def test_more_shapes_than_there_is_room_for_are_computed_as_they_are() -> None:
    capture = Traced()
    made = Graphs(capture)
    for size in range(1, MOST_SHAPES + 4):
        (found, _) = made.call("double", double, torch.ones(size), torch.ones(size))
        assert torch.equal(found, torch.full((size,), 2.0))
    assert capture.captures == MOST_SHAPES
    made.call("double", double, torch.ones(1), torch.ones(1))
    assert capture.replays == MOST_SHAPES + 1


def test_numbers_read_on_the_host_cannot_be_captured() -> None:
    with pytest.raises(RuntimeError):
        Graphs(Traced()).call("read", lambda x: (x * float(x.sum()),), torch.ones(2))


def test_the_arithmetic_of_the_process_is_told_apart() -> None:
    before = graphs.arithmetic()
    was = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    try:
        other = "ieee" if was == "tf32" else "tf32"
        torch.backends.cudnn.conv.fp32_precision = other  # type: ignore[attr-defined]
        assert graphs.arithmetic() != before
    finally:
        torch.backends.cudnn.conv.fp32_precision = was  # type: ignore[attr-defined]


def test_a_graphed_loss_is_the_plain_one_for_every_network() -> None:
    capture = Traced()
    made = Graphs(capture)
    for seed in range(2):
        plain = convnet_loss(seed)
        theta = plain.model.theta
        graphed = GraphedLoss(plain, made)
        images, labels = small_data().train.images[:5].double(), torch.eye(6).double()[:5]
        batch = Batch(images, labels)
        vector = torch.linspace(-1, 1, len(theta)).double()
        for found, expected in (
            (graphed.evaluate(theta, batch), plain.evaluate(theta, batch)),
            (graphed.product(theta, batch, vector), plain.product(theta, batch, vector)),
        ):
            for one, other in zip(found, expected, strict=True):
                assert one is other is None or torch.equal(one, other)
                assert one is None or not one.requires_grad
    assert capture.captures == 2


class FakeCuda:
    """Notes how CUDA graphs are used: no card is needed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[Any] = []
        self.pools = 0
        for name, fake in {
            "graph_pool_handle": self.new_pool,
            "device": lambda device: nullcontext(),
            "Stream": lambda: SimpleNamespace(wait_stream=lambda other: None),
            "current_stream": lambda: SimpleNamespace(wait_stream=lambda other: None),
            "stream": lambda stream: nullcontext(),
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: self.events.append("replay")),
            "graph": self.capturing,
        }.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    def new_pool(self) -> int:
        self.pools += 1
        return self.pools

    @contextmanager
    def capturing(self, graph: object, *, pool: int, capture_error_mode: str) -> Iterator[None]:
        self.events.append(("capture", pool, capture_error_mode))
        yield
        self.events.append("captured")


def test_cuda_graphs_are_warmed_up_captured_in_one_pool_and_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda(monkeypatch)
    capture = CudaCapture(torch.device("cuda"))

    def function(x: Tensor) -> Sequence[Tensor]:
        cuda.events.append("run")
        return (2 * x,)

    replay = capture(function, [torch.ones(2)])
    kept = ("capture", 1, "thread_local")
    assert cuda.events == ["run"] * WARM_UPS + [kept, "run", "captured"]
    cuda.events.clear()
    assert replay()[0] is replay()[0]
    assert cuda.events == ["replay", "replay"]
    cuda.events.clear()
    capture(function, [torch.ones(2)])
    capture.fresh()(function, [torch.ones(2)])
    assert [event[1] for event in cuda.events if event[0] == "capture"] == [1, 2]


def test_a_capture_that_fails_leaves_the_stream_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: cuda.events.append("stream"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: cuda.events.append("wait"))

    def function() -> Sequence[Tensor]:
        if ("capture", 1, "thread_local") in cuda.events:
            raise RuntimeError("operation not permitted")
        return ()

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaCapture(torch.device("cuda"))(function, [])
    assert cuda.events[-2:] == ["stream", "wait"]

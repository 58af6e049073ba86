"""The choice between kernels and autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.config.sections import EngineOptions
from distill_core.contracts.data import DataSpec
from distill_core.contracts.synthetic import Batch
from distill_core.engine import engine
from distill_core.engine.autograd import AutogradLoss
from distill_core.engine.convnet import ConvNetLoss
from distill_core.engine.engine import Engine
from distill_core.engine.graphs import choice as graph_choice
from distill_core.engine.graphs.capture import Graphs
from distill_core.engine.graphs.loss import GraphedLoss
from distill_core.engine.kernels import choice, fused
from distill_core.engine.kernels.native import Unavailable
from distill_core.engine.kernels.torch_functions import PLAIN
from registry import InputError, OptionError, check_options
from tests.distill_core.engine.traced_graphs import Traced
from tests.distill_core.fake_card import fake_card

CPU = torch.device("cpu")


def convnet(norm: str = "instance") -> ConvNet:
    options = ConvNetOptions.model_validate({"width": 4, "norm": norm})
    return ConvNet(options, spec=DataSpec("made", ("a", "b"), (3, 8, 8), ()))


def test_kernels_are_the_default_where_they_can_be_used() -> None:
    chosen = Engine.choose(EngineOptions(), convnet(), CPU)
    assert chosen.kernels
    assert isinstance(chosen.loss(convnet()), ConvNetLoss)
    assert chosen.describe() == (
        "ConvNet kernels, float32; a whole inner batch and 250 real images at a time"
    )


@pytest.mark.parametrize(
    ("text", "size"), [("auto", 256 * 2**20), ("none", 0), ("1.5GiB", 3 * 2**29)]
)
def test_what_may_be_retained_is_an_amount_or_nothing(text: str, size: int) -> None:
    for path in ("kernels", "autograd"):
        options = EngineOptions(activation_cache=text, path=path)
        chosen = Engine.choose(options, convnet(), CPU)
        assert chosen.loss(convnet()).activation_cache == size
        assert chosen.without_cache().loss(convnet()).activation_cache == 0


def test_no_amount_is_refused() -> None:
    with pytest.raises(OptionError, match="not an amount of memory"):
        check_options(EngineOptions, {"activation_cache": "much"}, where="engine")


@pytest.mark.parametrize(
    ("options", "norm", "device", "reason"),
    [
        ({"path": "autograd"}, "instance", "cpu", "autograd is asked for by engine.path"),
        ({}, "batch", "cpu", "no kernels for this ConvNet"),
        ({}, "instance", "mps", "no kernels for mps"),
    ],
)
def test_autograd_is_chosen_with_a_reason(
    options: dict[str, str],
    norm: str,
    device: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_card(monkeypatch)
    checked = EngineOptions.model_validate(options)
    chosen = Engine.choose(checked, convnet(norm), torch.device(device))
    assert not chosen.kernels
    assert isinstance(chosen.loss(convnet(norm)), AutogradLoss)
    assert f"autograd ({reason})" in chosen.describe()


def no_compiler() -> None:
    raise Unavailable("there is no C compiler (cc, gcc, clang or $CC)", next="install gcc")


def test_without_a_compiler_autograd_is_used_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "library", no_compiler)
    chosen = Engine.choose(EngineOptions(microbatch=8), convnet(), CPU)
    assert chosen.describe() == (
        "autograd (there is no C compiler (cc, gcc, clang or $CC); install gcc); "
        "8 images and 250 real images at a time"
    )


@pytest.mark.parametrize("option", [{"path": "kernels"}, {"precision": "bfloat16"}])
def test_what_cannot_be_had_is_refused(
    option: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "library", no_compiler)
    with pytest.raises(InputError) as caught:
        Engine.choose(EngineOptions.model_validate(option), convnet(), CPU)
    assert caught.value.what == (
        "the ConvNet kernels cannot be used: there is no C compiler (cc, gcc, clang or $CC); "
        "install gcc."
    )


def test_cuda_has_the_kernels_where_triton_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    fake_card(monkeypatch)
    monkeypatch.setattr(fused, "outcome", lambda device: PLAIN)
    half = EngineOptions(precision="bfloat16", graphs="none")
    chosen = Engine.choose(half, convnet(), cuda)
    assert chosen.describe().startswith("ConvNet kernels, bfloat16, no CUDA graphs")
    monkeypatch.setenv("DISTILL_KERNELS", "off")
    plain = EngineOptions(graphs="none")
    found = Engine.choose(plain, convnet(), cuda).describe()
    assert "autograd (DISTILL_KERNELS is off; unset DISTILL_KERNELS)" in found
    monkeypatch.delenv("DISTILL_KERNELS")
    none = Unavailable("there is no Triton", next="install it")
    monkeypatch.setattr(fused, "outcome", lambda device: none)
    found = Engine.choose(plain, convnet(), cuda).describe()
    assert found.startswith(
        "autograd (there is no Triton; install it), no CUDA graphs (engine.graphs=none); "
    )


def test_cuda_has_graphs_where_they_can_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, shape = torch.device("cuda"), (3, 8, 8)
    fake_card(monkeypatch)
    monkeypatch.setattr(engine, "CudaCapture", lambda device: Traced())
    monkeypatch.setattr(graph_choice, "TRIED", ((),))
    by_autograd = EngineOptions(path="autograd")

    def chosen(norm: str = "instance", **kwargs: Any) -> Engine:
        return Engine.choose(by_autograd, convnet(norm), cuda, **kwargs)

    found = chosen(image_shape=shape)
    assert ", CUDA graphs; " in found.describe()
    assert isinstance(found.loss(convnet()), GraphedLoss)
    assert found.without_cache().graphs is None
    assert found.recapturing().graphs not in (None, found.graphs)
    for reason, without in (
        ("the size of images is not known", chosen()),
        ("the network has buffers", chosen("batch", image_shape=shape)),
    ):
        assert f", no CUDA graphs ({reason}" in without.describe()
        assert isinstance(without.loss(convnet()), AutogradLoss)
    monkeypatch.setattr(engine, "fails_in_graphs", lambda loss, shape: "capturing failed: it waits")
    assert "no CUDA graphs (capturing failed: it waits)" in chosen(image_shape=shape).describe()
    on_cpu = Engine.choose(by_autograd, convnet(), CPU, image_shape=shape)
    assert "graphs" not in on_cpu.describe()


def test_graphs_of_other_microbatches_are_kept_apart() -> None:
    graphs = Graphs(capture := Traced())
    theta = torch.zeros(0)
    batch = Batch(torch.linspace(-1, 1, 4 * 192).view(4, 3, 8, 8), torch.eye(2)[[0, 1, 1, 0]])
    for size in (None, 2, None):
        loss = Engine(microbatch=size, graphs=graphs).loss(convnet())
        theta = loss.model.theta
        loss.evaluate(theta, batch)
    assert capture.captures == 2


def test_microbatches_that_would_change_the_result_are_refused() -> None:
    with pytest.raises(InputError, match=r"batch normalisation mixes the images"):
        Engine.choose(EngineOptions(microbatch=8), convnet("batch"), CPU)


@pytest.mark.parametrize(
    ("multiplies", "said"),
    [(True, "ConvNet kernels, bfloat16; "), (False, "ConvNet kernels, bfloat16, convolved in ")],
)
def test_half_precision_is_passed_on_and_said(
    multiplies: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "multiplies_bfloat16", lambda: multiplies)
    chosen = Engine.choose(EngineOptions(precision="bfloat16"), convnet(), CPU)
    assert chosen.describe().startswith(said)
    assert chosen.precision == torch.bfloat16


def test_half_precision_is_not_ignored_by_autograd() -> None:
    with pytest.raises(
        InputError, match=r"cannot be used: autograd is asked for by engine\.path"
    ) as caught:
        Engine.choose(EngineOptions(path="autograd", precision="bfloat16"), convnet(), CPU)
    assert "leave -o engine.path and engine.precision out" in caught.value.next


def test_a_frozen_network_goes_by_autograd() -> None:
    frozen = convnet()
    next(frozen.parameters()).requires_grad_(False)
    chosen = Engine.choose(EngineOptions(), frozen, CPU)
    assert isinstance(chosen.loss(frozen), AutogradLoss)
    assert "which is frozen or missing here" in chosen.describe()


def test_a_card_gives_what_nobody_has_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_card(monkeypatch, free=79 * 2**30)
    chosen = Engine.choose(EngineOptions(path="autograd"), convnet(), torch.device("cuda"))
    assert (chosen.real_chunk, chosen.activation_cache) == (1000, 2**34)
    asked = EngineOptions(path="autograd", real_chunk=250, activation_cache="256MiB")
    chosen = Engine.choose(asked, convnet(), torch.device("cuda"))
    assert (chosen.real_chunk, chosen.activation_cache) == (250, 2**28)
    mixing = Engine.choose(EngineOptions(path="autograd"), convnet("batch"), torch.device("cuda"))
    assert mixing.real_chunk == 250

"""Which derivatives a run uses, kernels or autograd, and how many images at a time.

Chosen once, before any work, and said; an algorithm asks `Engine.loss`, `features` or `jacobian`
for each network and does not know which it got.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from distill_core.contracts import Backbone
from distill_core.functional import FlatModel
from distill_core.hypergradient.autograd_loss import AutogradLoss, GraphSizes
from distill_core.hypergradient.convnet_body import ConvNetBody
from distill_core.hypergradient.convnet_loss import ConvNetLoss
from distill_core.hypergradient.device_defaults import (
    CHUNK,
    cache_size,
    check_precision,
    chunk_size,
)
from distill_core.hypergradient.features import Features, convnet_features, no_kernels
from distill_core.hypergradient.graph_choice import fails_in_graphs, no_graphs
from distill_core.hypergradient.graphed_loss import GraphedLoss
from distill_core.hypergradient.graphs import CudaCapture, Graphs
from distill_core.hypergradient.inner_loss import InnerLoss
from distill_core.hypergradient.jacobian import AutogradJacobian, ConvNetJacobian, Jacobian
from distill_core.kernels.choice import blocks_for
from distill_core.kernels.winograd import multiplies_bfloat16
from distill_core.option_sections import EngineOptions
from registry import InputError

MIXES_IMAGES = (torch.nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class Engine:
    """How inner losses are differentiated.

    Attributes:
        kernels: by the ConvNet kernels; else by autograd.
        reason: why, half a sentence for the log.
        precision: type of activations in the kernels.
        widens: they are convolved in float32, as the processor does not multiply bfloat16.
        microbatch: images of an inner batch at a time; None for all.
        real_chunk: images of the real batch at a time.
        activation_cache: bytes for activations of differentiated steps.
        splits: an inner batch can be taken in parts; not where the network mixes its images.
        memory: what was predicted of the memory that is allowed, for the log; or nothing.
        graphs: CUDA graphs of what losses compute; None where it is launched step by step.
        no_graphs: why that is so on CUDA, half a sentence for the log.
    """

    kernels: bool = False
    reason: str = "autograd by default"
    precision: torch.dtype | None = None
    widens: bool = False
    microbatch: int | None = None
    real_chunk: int = CHUNK
    activation_cache: int = 0
    splits: bool = True
    memory: str = ""
    graphs: Graphs | None = None
    no_graphs: str = ""
    _sizes: GraphSizes = field(init=False, default_factory=dict, compare=False, repr=False)

    @staticmethod
    def choose(
        options: EngineOptions,
        backbone: Backbone,
        device: torch.device,
        *,
        image_shape: tuple[int, int, int] | None = None,
    ) -> Engine:
        """Choose for a network like `backbone` on a device.

        Args:
            options: what is asked for.
            backbone: on the device.
            device: where networks are.
            image_shape: C, h, w of their images. On CUDA graphs are tried out with two such
                images; without it there are no graphs.

        Raises:
            InputError: the options ask for what this network or machine does not have.
        """
        check_precision(options, device)
        obstacle = _obstacle(options, backbone, device)
        wanted = options.path == "kernels" or options.precision == "bfloat16"
        if obstacle and wanted:
            raise InputError(
                f"the ConvNet kernels cannot be used: {obstacle}.",
                expected="--backbone convnet with its published norm, pooling and activation (the "
                "defaults), on the CPU with a C compiler, or on CUDA with Triton.",
                next="leave -o engine.path and engine.precision out to differentiate by autograd.",
            )
        splits = not mixes_images(backbone)
        if options.microbatch and not splits:
            raise InputError(
                f"option engine.microbatch = {options.microbatch} would change the result: batch "
                "normalisation mixes the images of a batch.",
                expected="no engine.microbatch with this backbone.",
                next="drop it, or pass -o backbone.norm=instance; -o algo.batch makes inner "
                "batches smaller.",
            )
        half = options.precision == "bfloat16"
        engine = Engine(
            kernels=not obstacle,
            reason=obstacle or "a ConvNet",
            precision=torch.bfloat16 if half else None,
            widens=half and device.type == "cpu" and not multiplies_bfloat16(),
            microbatch=options.microbatch,
            real_chunk=chunk_size(options.real_chunk, device, splits=splits),
            activation_cache=cache_size(options.activation_cache, device),
            splits=splits,
        )
        if device.type != "cuda":
            return engine
        if options.graphs == "none":
            return replace(engine, no_graphs="engine.graphs=none")
        return engine._with_graphs(backbone, device, image_shape)

    def loss(self, backbone: Backbone) -> InnerLoss:
        """Return the inner loss of a network, in the mode in which it is; parameters are copied."""
        plain = self._plain_loss(backbone)
        if self.graphs is None:
            return plain
        return GraphedLoss(plain, self.graphs, (self.kernels, self.precision, self.microbatch))

    def features(self, backbone: Backbone) -> Features:
        """Return a function of images (n, C, h, w) that gives a network's features (n, d).

        It can be differentiated once, in the images and in the network's parameters; those at the
        time of a call count.
        """
        structure = backbone.conv_blocks()
        if self.kernels and structure is not None:
            return convnet_features(backbone, structure, self.precision)
        return backbone.embed

    def jacobian(self, backbone: Backbone) -> Callable[[Tensor], Jacobian]:
        """Return a function of images (n, C, h, w) that gives the Jacobian of a network's logits,
        for products with it; the network's parameters are copied."""
        model, structure = FlatModel(backbone), backbone.conv_blocks()
        if self.kernels and structure is not None:
            storage = self.precision or model.theta.dtype
            body = ConvNetBody(structure, blocks_for(model.theta.device, storage))
            return partial(ConvNetJacobian, model, body)
        return partial(AutogradJacobian, model)

    def recapturing(self) -> Engine:
        """Return the same engine without the graphs that were captured, for a trial."""
        return replace(self, graphs=self.graphs and self.graphs.emptied())

    def without_cache(self) -> Engine:
        """Return the same engine that retains no activations, and launches step by step: what it
        takes can be counted tensor by tensor."""
        return replace(self, activation_cache=0, graphs=None)

    def describe(self) -> str:
        """Return one line for the log and the manifest."""
        reason = "" if self.kernels else f" ({self.reason})"
        memory = f"; {self.memory}" if self.memory else ""
        return f"{self.how()}{reason}{self._told_graphs()}; {self.images()}{memory}"

    def how(self) -> str:
        """Return how derivatives are taken, in words."""
        if not self.kernels:
            return "autograd"
        precision = str(self.precision or torch.float32).removeprefix("torch.")
        return f"ConvNet kernels, {precision}{', convolved in float32' if self.widens else ''}"

    def _told_graphs(self) -> str:
        if self.graphs is not None:
            return ", CUDA graphs"
        return f", no CUDA graphs ({self.no_graphs})" if self.no_graphs else ""

    def _plain_loss(self, backbone: Backbone) -> InnerLoss:
        model, size = FlatModel(backbone), self.microbatch
        structure = backbone.conv_blocks()
        if self.kernels and structure is not None:
            return ConvNetLoss(
                model,
                structure,
                storage=self.precision,
                microbatch=size,
                activation_cache=self.activation_cache,
            )
        return AutogradLoss(model, size, activation_cache=self.activation_cache, sizes=self._sizes)

    def _with_graphs(
        self, backbone: Backbone, device: torch.device, image_shape: tuple[int, int, int] | None
    ) -> Engine:
        """The same engine with graphs, or with the reason why there are none."""
        reason = no_graphs(backbone, device)
        if not reason and image_shape is None:
            reason = "the size of images is not known"
        if reason or image_shape is None:
            return replace(self, no_graphs=reason)
        graphs = Graphs(CudaCapture(device))
        reason = fails_in_graphs(GraphedLoss(self._plain_loss(backbone), graphs), image_shape)
        return replace(self, no_graphs=reason) if reason else replace(self, graphs=graphs.emptied())

    def images(self) -> str:
        """Return how many images are taken at a time, in words."""
        size = f"{self.microbatch} images" if self.microbatch else "a whole inner batch"
        return f"{size} and {self.real_chunk} real images at a time"


def mixes_images(backbone: Backbone) -> bool:
    """Say whether a network's result for an image depends on the others of its batch."""
    return any(isinstance(module, MIXES_IMAGES) for module in backbone.modules())


def _obstacle(options: EngineOptions, backbone: Backbone, device: torch.device) -> str:
    """Why the kernels cannot be used, or nothing."""
    if options.path == "autograd":
        return "autograd is asked for by engine.path"
    return no_kernels(backbone, device) or _frozen(backbone)


def _frozen(backbone: Backbone) -> str:
    """Why the network's parameters are not those that the kernels differentiate, or nothing."""
    structure = backbone.conv_blocks()
    assert structure is not None
    learned = {name for name, each in backbone.named_parameters() if each.requires_grad}
    for name in (*(n for layer in structure.layers for n in layer), "head.weight", "head.bias"):
        if name not in learned:
            return f"the kernels learn '{name}', which is frozen or missing here"
    return ""

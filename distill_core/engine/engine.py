"""How a run differentiates: by kernels or autograd, and how many images at a time.

The engine is chosen once, before any work, and logged. An algorithm asks it for the `loss`,
`features` or `jacobian` of each network, and does not know which implementation it gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from distill_core.config.sections import EngineOptions
from distill_core.contracts.derivatives import Features, InnerLoss, Jacobian
from distill_core.contracts.network import Backbone, FlatModel
from distill_core.engine.autograd import AutogradLoss, GraphSizes
from distill_core.engine.convnet import ConvNetLoss
from distill_core.engine.convnet_body import ConvNetBody
from distill_core.engine.device_defaults import (
    CHUNK,
    cache_size,
    check_precision,
    chunk_size,
)
from distill_core.engine.features import convnet_features, no_kernels
from distill_core.engine.graphs.capture import CudaCapture, Graphs
from distill_core.engine.graphs.choice import fails_in_graphs, no_graphs
from distill_core.engine.graphs.loss import GraphedLoss
from distill_core.engine.jacobian import AutogradJacobian, ConvNetJacobian
from distill_core.engine.kernels.choice import blocks_for
from distill_core.engine.kernels.winograd import multiplies_bfloat16
from registry import InputError

MIXES_IMAGES = (torch.nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class Engine:
    """How inner losses are differentiated.

    Attributes:
        kernels: use the ConvNet kernels; otherwise autograd.
        reason: why, half a sentence for the log.
        precision: dtype of activations in the kernels.
        widens: convolve in float32, because the processor does not multiply bfloat16.
        microbatch: images of an inner batch at a time; None for all.
        real_chunk: images of the real batch at a time.
        activation_cache: bytes for activations of differentiated steps.
        splits: an inner batch can be split; False if the network mixes its images.
        memory: the predicted memory and its limit, for the log; empty without a limit.
        graphs: CUDA graphs of what losses compute; None to launch operations one by one.
        no_graphs: why there are none on CUDA, half a sentence for the log.
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
        """Choose an engine for networks like `backbone` on a device.

        Args:
            options: section `engine` of the run.
            backbone: a network on the device.
            device: where networks are.
            image_shape: C, h, w of their images. On CUDA, graphs are tried on two such images;
                None: no graphs.

        Raises:
            InputError: this network or machine does not support what the options ask for.
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
        """Return the inner loss of a network in its current mode; parameters are copied."""
        plain = self._plain_loss(backbone)
        if self.graphs is None:
            return plain
        return GraphedLoss(plain, self.graphs, (self.kernels, self.precision, self.microbatch))

    def features(self, backbone: Backbone) -> Features:
        """Return a function from images (n, C, h, w) to a network's features (n, d).

        It can be differentiated once, in the images and in the network's parameters. Each call
        uses the parameters that the network has then.
        """
        structure = backbone.conv_blocks()
        if self.kernels and structure is not None:
            return convnet_features(backbone, structure, self.precision)
        return backbone.embed

    def jacobian(self, backbone: Backbone) -> Callable[[Tensor], Jacobian]:
        """Return a function from images (n, C, h, w) to the Jacobian of a network's logits.

        The Jacobian is used by its products. The network's parameters are copied.
        """
        model, structure = FlatModel(backbone), backbone.conv_blocks()
        if self.kernels and structure is not None:
            storage = self.precision or model.theta.dtype
            body = ConvNetBody(structure, blocks_for(model.theta.device, storage))
            return partial(ConvNetJacobian, model, body)
        return partial(AutogradJacobian, model)

    def recapturing(self) -> Engine:
        """Return the same engine with no graphs captured yet, for a trial."""
        return replace(self, graphs=self.graphs and self.graphs.emptied())

    def without_cache(self) -> Engine:
        """Return the same engine without retained activations and graphs.

        Its memory can be counted tensor by tensor.
        """
        return replace(self, activation_cache=0, graphs=None)

    def describe(self) -> str:
        """Return one line for the log and the manifest."""
        reason = "" if self.kernels else f" ({self.reason})"
        memory = f"; {self.memory}" if self.memory else ""
        return f"{self.how()}{reason}{self._told_graphs()}; {self.images()}{memory}"

    def how(self) -> str:
        """Say how derivatives are taken."""
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
        """The same engine with graphs, or with the reason why it has none."""
        reason = no_graphs(backbone, device)
        if not reason and image_shape is None:
            reason = "the size of images is not known"
        if reason or image_shape is None:
            return replace(self, no_graphs=reason)
        graphs = Graphs(CudaCapture(device))
        reason = fails_in_graphs(GraphedLoss(self._plain_loss(backbone), graphs), image_shape)
        return replace(self, no_graphs=reason) if reason else replace(self, graphs=graphs.emptied())

    def images(self) -> str:
        """Say how many images are taken at a time."""
        size = f"{self.microbatch} images" if self.microbatch else "a whole inner batch"
        return f"{size} and {self.real_chunk} real images at a time"


def mixes_images(backbone: Backbone) -> bool:
    """Say whether a network's output for an image depends on the other images of its batch."""
    return any(isinstance(module, MIXES_IMAGES) for module in backbone.modules())


def _obstacle(options: EngineOptions, backbone: Backbone, device: torch.device) -> str:
    """Why the kernels cannot be used; empty if they can."""
    if options.path == "autograd":
        return "autograd is asked for by engine.path"
    return no_kernels(backbone, device) or _frozen(backbone)


def _frozen(backbone: Backbone) -> str:
    """Why the network's trained parameters are not those of the kernels; empty if they are."""
    structure = backbone.conv_blocks()
    assert structure is not None
    learned = {name for name, each in backbone.named_parameters() if each.requires_grad}
    for name in (*(n for layer in structure.layers for n in layer), "head.weight", "head.bias"):
        if name not in learned:
            return f"the kernels learn '{name}', which is frozen or missing here"
    return ""

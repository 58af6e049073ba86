"""The ConvNet of the distillation literature: blocks of convolution, norm, activation, pooling."""

from __future__ import annotations

from torch import Tensor, nn

from distill_core.builtin.backbones.options import (
    PUBLISHED_WIDTH,
    SMALL_WIDTH,
    ConvNetOptions,
)
from distill_core.plugin import (
    Backbone,
    ConvBlocks,
    ConvLayer,
    DataSpec,
    InputError,
    OptionError,
)

_GROUPS = 4
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "silu": nn.SiLU,
}
# The deviation of a standard normal variable that is cut at two of its deviations.
_CUT = 0.87962566103423978


class ConvNet(Backbone):
    """Blocks of 3x3 convolution, norm, activation and pooling, and a linear layer.

    Grey images of 28x28 are padded to 32x32 by the first convolution, as in the literature.
    Weights start as PyTorch's layers do, if not asked otherwise.

    Source: Zhao et al. 2021 (arXiv:2006.05929), used since.

    Raises:
        InputError: the images are too small for so many blocks.
        OptionError: the width does not go with the norm.
    """

    def __init__(self, options: ConvNetOptions, *, spec: DataSpec) -> None:
        super().__init__()
        maps = options.width or (SMALL_WIDTH if spec.is_small else PUBLISHED_WIDTH)
        if options.norm == "group" and maps % _GROUPS:
            raise OptionError(
                f"option backbone.width = {maps} cannot be split into {_GROUPS} groups.",
                expected=f"a multiple of {_GROUPS} with backbone.norm=group.",
                next=f"pass -o backbone.width={maps + -maps % _GROUPS}, or "
                "-o backbone.norm=instance.",
            )
        channels, height, width = spec.image_shape
        depth = options.depth or default_depth(height, width)
        layers: list[nn.Module] = []
        names: list[ConvLayer] = []
        first_padding = 3 if spec.image_shape == (1, 28, 28) else 1
        hw = (height, width)
        for block in range(depth):
            padding = first_padding if block == 0 else 1
            place = len(layers)
            names.append(
                ConvLayer(
                    *(
                        f"blocks.{name}"
                        for name in (f"{place}.weight", f"{place + 1}.weight", f"{place + 1}.bias")
                    )
                )
            )
            hw = (hw[0] + 2 * padding - 2, hw[1] + 2 * padding - 2)
            layers.append(nn.Conv2d(channels, maps, 3, padding=padding))
            layers += _norm(options.norm, maps, hw)
            layers.append(_activation(options))
            if options.pooling != "none":
                layers.append(nn.AvgPool2d(2) if options.pooling == "avg" else nn.MaxPool2d(2))
                hw = (hw[0] // 2, hw[1] // 2)
            if min(hw) < 1:
                raise _too_deep(spec, depth)
            channels, maps = maps, maps * options.growth
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels * hw[0] * hw[1], spec.num_classes)
        published = (options.norm, options.pooling, options.activation)
        self._structure = (
            ConvBlocks(tuple(names), first_padding, hw)
            if published == ("instance", "avg", "relu")
            else None
        )
        if options.init == "lecun":
            self.apply(_lecun)

    def embed(self, images: Tensor) -> Tensor:
        """Return features (n, d) of images (n, C, h, w)."""
        features: Tensor = self.blocks(images)
        return features.flatten(1)

    def conv_blocks(self) -> ConvBlocks | None:
        """Return the structure with the published norm, pooling and activation, else None."""
        return self._structure


def default_depth(height: int, width: int) -> int:
    """Return how many blocks suit images of this size.

    The papers use 3 at 28 and 32 pixels and 4 at 64. At 8 pixels a third block would normalise
    over maps of 2x2 and learns nothing.

    >>> [default_depth(side, side) for side in (8, 16, 28, 32, 64)]
    [2, 2, 3, 3, 4]
    """
    side = min(height, width)
    return 1 + (side >= 8) + (side >= 24) + (side >= 64)


def _norm(norm: str, width: int, hw: tuple[int, int]) -> list[nn.Module]:
    if norm == "instance":
        return [nn.GroupNorm(width, width)]
    if norm == "group":
        return [nn.GroupNorm(_GROUPS, width)]
    if norm == "batch":
        return [nn.BatchNorm2d(width)]
    if norm == "layer":
        return [nn.LayerNorm([width, *hw])]
    return []


def _activation(options: ConvNetOptions) -> nn.Module:
    if options.activation == "softplus":
        return nn.Softplus(beta=options.sharpness)
    return _ACTIVATIONS[options.activation]()


def _lecun(layer: nn.Module) -> None:
    """Draw the weights of a layer as `lecun_normal` of JAX does (LeCun et al. 1998)."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        deviation = layer.weight[0].numel() ** -0.5 / _CUT
        nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _too_deep(spec: DataSpec, depth: int) -> InputError:
    _, height, width = spec.image_shape
    return InputError(
        f"{depth} blocks of pooling leave nothing of images of {height}x{width} pixels.",
        expected=f"at most {min(height, width).bit_length() - 1} blocks "
        f"(the default here is {default_depth(height, width)}).",
        next="lower -o backbone.depth, or pass -o backbone.pooling=none.",
    )

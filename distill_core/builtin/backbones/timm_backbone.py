"""Any network of timm as a backbone, without pretrained weights."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.dropout import _DropoutNd

from distill_core.builtin.backbones.options import TimmOptions
from distill_core.plugin import (
    Backbone,
    DataSpec,
    InputError,
    UnknownNameError,
    check_torchvision,
)


class TimmBackbone(Backbone):
    """A model of timm for images of this size and so many classes, freshly initialised.

    Dropout and stochastic depth are switched off, because they draw from global random state;
    attention is computed in its plain form, because the fused one has no second derivative.

    Source: Wightman 2019, PyTorch Image Models.

    Raises:
        UnknownNameError: timm has no such model.
        InputError: the model cannot take the images, or does not end in a linear layer.
    """

    def __init__(self, options: TimmOptions, *, spec: DataSpec) -> None:
        super().__init__()
        self.model = _make(options.name, spec)
        _switch_off_chance(self.model)
        self._try_out(options.name, spec)

    @property
    def head(self) -> nn.Linear:  # type: ignore[override]
        """The model's classifier, d features to K logits."""
        classifier: nn.Linear = self.model.get_classifier()  # type: ignore[operator]
        return classifier

    def embed(self, images: Tensor) -> Tensor:
        """Return features (n, d) of images (n, C, h, w)."""
        with sdpa_kernel(SDPBackend.MATH):
            maps = self.model.forward_features(images)  # type: ignore[operator]
            features: Tensor = self.model.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        return features

    @torch.no_grad()
    def _try_out(self, name: str, spec: DataSpec) -> None:
        """Run two images through, so that a misfit is found before any work."""
        size = "x".join(map(str, spec.image_shape))
        if not isinstance(self.model.get_classifier(), nn.Linear):  # type: ignore[operator]
            raise _unusable(name, "its last layer is not linear")
        count = 2 * torch.Size(spec.image_shape).numel()
        images = torch.linspace(-1, 1, count).view(2, *spec.image_shape)
        training = self.training
        self.eval()
        try:
            direct, split = self.model(images), self(images)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise _unusable(name, f"it does not take images of {size}: {reason}") from error
        self.train(training)
        if direct.shape != split.shape or not torch.allclose(direct, split, atol=1e-4):
            raise _unusable(name, "its logits are not its last layer's output on its features")


def _make(name: str, spec: DataSpec) -> nn.Module:
    check_torchvision()  # timm imports it
    import timm

    if not timm.is_model(name):
        names = timm.list_models()
        raise UnknownNameError(
            "timm model",
            name,
            known=difflib.get_close_matches(name, names, n=8, cutoff=0),
            next="pass --backbone timm:NAME; those are the nearest of "
            f"{len(names)}: `distill list backbones --filter 'resnet*'` searches all.",
        )
    channels, height, width = spec.image_shape
    settings: dict[str, Any] = {"in_chans": channels, "num_classes": spec.num_classes}
    try:
        try:
            model = timm.create_model(name, img_size=(height, width), **settings)
        except TypeError:  # most convolutional networks take any size and know no img_size
            model = timm.create_model(name, **settings)
    except Exception as error:
        size = f"{channels}x{height}x{width}"
        raise _unusable(name, f"it cannot be made for images of {size}: {error}") from error
    made: nn.Module = model
    return made


def _switch_off_chance(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        for rate in ("drop_prob", "drop_rate"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)


def _unusable(name: str, why: str) -> InputError:
    return InputError(
        f"timm model '{name}' cannot be used: {why.rstrip('.')}.",
        expected="a model that takes images of this size and ends in one linear layer, for "
        "example resnet10t.",
        next="choose another --backbone timm:NAME, or another -o dataset.size where there is one.",
    )

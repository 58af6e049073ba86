"""What distill brings itself, by name; nothing heavy is imported here."""

from __future__ import annotations

from distill_core.plugin import Component, Preset, hookimpl

_HERE = "distill_core.builtin"


@hookimpl
def distill_representations() -> list[Component]:
    """Offer whole images."""
    return [
        Component(
            "images",
            f"{_HERE}.images:Images",
            f"{_HERE}.images:ImagesOptions",
            "whole images, the same number for every class",
        )
    ]


@hookimpl
def distill_labelers() -> list[Component]:
    """Offer fixed and learned labels."""
    return [
        Component("onehot", f"{_HERE}.onehot:Onehot", summary="fixed: the class at the image"),
        Component("soft", f"{_HERE}.soft:Soft", summary="learned: a soft label for every image"),
    ]


@hookimpl
def distill_orderers() -> list[Component]:
    """Offer orders that need no words."""
    orderers = f"{_HERE}.orderers"
    return [
        Component("identity", f"{orderers}:Identity", summary="classes as they are numbered"),
        Component("random", f"{orderers}:Random", summary="a random order, from the seed"),
        Component(
            "given", f"{orderers}:Given", f"{orderers}:GivenOptions", "a class grid from a file"
        ),
        Component(
            "photometric",
            f"{orderers}:Photometric",
            f"{orderers}:PhotometricOptions",
            "classes of similar colour side by side",
        ),
    ]


@hookimpl
def distill_algorithms() -> list[Component]:
    """Offer ways to a hypergradient."""
    return [
        Component(
            "ratbptt",
            f"{_HERE}.ratbptt:RatBptt",
            f"{_HERE}.ratbptt:RatBpttOptions",
            "backpropagation through a random window of an inner loop",
        )
    ]


@hookimpl
def distill_datasets() -> list[Component]:
    """Offer real images."""
    here = f"{_HERE}.datasets"
    named = [
        ("digits", "digits:Digits", "digits:DigitsOptions", "handwritten digits, 8x8, offline"),
        ("imagefolder", "imagefolder:ImageFolder", "imagefolder:ImageFolderOptions",
         "your own images: a folder or a .zip with a folder for each class"),
        ("shapes", "shapes:Shapes", "shapes:ShapesOptions", "generated shapes in colour"),
        ("cub200", "cub200:Cub200", "cub200:Cub200Options", "birds, CUB-200-2011"),
        ("tiny_imagenet", "tiny_imagenet:TinyImagenet", "tiny_imagenet:TinyImagenetOptions",
         "200 classes of ImageNet, 64x64"),
    ]  # fmt: skip
    downloads = [
        ("cifar10", "Cifar10", "10 classes of objects, 32x32"),
        ("cifar100", "Cifar100", "100 classes of objects, 32x32"),
        ("mnist", "Mnist", "handwritten digits, 28x28"),
        ("fashion_mnist", "FashionMnist", "10 kinds of clothes, 28x28"),
        ("svhn", "Svhn", "house numbers, 32x32"),
    ]
    options = f"{here}.torchvision_sets:TorchvisionOptions"
    return [
        *(Component(n, f"{here}.{made}", f"{here}.{opts}", text) for n, made, opts, text in named),
        *(
            Component(name, f"{here}.torchvision_sets:{made}", options, text)
            for name, made, text in downloads
        ),
    ]


@hookimpl
def distill_backbones() -> list[Component]:
    """Offer networks."""
    return [
        Component(
            "convnet",
            f"{_HERE}.convnet:ConvNet",
            f"{_HERE}.convnet:ConvNetOptions",
            "blocks of convolution, norm, activation and pooling, as in the literature",
        ),
        Component(
            "timm",
            f"{_HERE}.timm_backbone:TimmBackbone",
            f"{_HERE}.timm_backbone:TimmOptions",
            "any network of the timm library that accepts the image size",
        ),
    ]

"""What distill brings itself, by name; nothing heavy is imported here."""

from __future__ import annotations

from distill_core.plugin import Component, hookimpl

_HERE = "distill_core.builtin"


@hookimpl
def distill_representations() -> list[Component]:
    """Offer whole images, learned or real."""
    return [
        Component(
            "images",
            f"{_HERE}.images:Images",
            f"{_HERE}.images:ImagesOptions",
            "whole images, the same number for every class",
        ),
        Component(
            "basis",
            f"{_HERE}.basis:Basis",
            f"{_HERE}.basis:BasisOptions",
            "mixtures of a few images that all classes share",
        ),
        Component(
            "coreset",
            f"{_HERE}.coreset:Coreset",
            f"{_HERE}.coreset_options:CoresetOptions",
            "chosen real images, the same number for every class; nothing to learn",
        ),
    ]


@hookimpl
def distill_labelers() -> list[Component]:
    """Offer fixed and learned labels."""
    return [
        Component("onehot", f"{_HERE}.onehot:Onehot", summary="fixed: the class at the image"),
        Component("soft", f"{_HERE}.soft:Soft", summary="learned: a soft label for every image"),
        Component(
            "teacher",
            f"{_HERE}.teacher:Teacher",
            f"{_HERE}.teacher_options:TeacherOptions",
            "fixed: what a trained network sees in the starting images",
        ),
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
            f"{_HERE}.ratbptt_options:RatBpttOptions",
            "backpropagation through a random window of an inner loop",
        ),
        Component(
            "bptt",
            f"{_HERE}.bptt:Bptt",
            f"{_HERE}.bptt_options:BpttOptions",
            "backpropagation through the whole of an inner loop with momentum",
        ),
        Component(
            "dd",
            f"{_HERE}.dd:Dd",
            f"{_HERE}.dd_options:DdOptions",
            "a few steps of gradient descent with learned rates",
        ),
        Component(
            "none",
            f"{_HERE}.nothing:Nothing",
            "distill_core.recipe:Recipe",
            "learns nothing: the start is judged as it is; for coresets",
        ),
        Component(
            "dc",
            f"{_HERE}.matching:GradientMatching",
            f"{_HERE}.matching_options:DcOptions",
            "gradients of every class, matched under networks that train on the result",
        ),
        Component(
            "dsa",
            f"{_HERE}.matching:GradientMatching",
            f"{_HERE}.matching_options:DsaOptions",
            "dc with real and synthetic images augmented alike",
        ),
        Component(
            "dm",
            f"{_HERE}.dm:DistributionMatching",
            f"{_HERE}.dm_options:DmOptions",
            "class means of features, matched under random networks; fixed labels",
        ),
        Component(
            "mtt",
            f"{_HERE}.mtt:Mtt",
            f"{_HERE}.trajectory_options:MttOptions",
            "a student's parameters matched to those of networks trained on the real data",
        ),
        Component(
            "ftd",
            f"{_HERE}.ftd:Ftd",
            f"{_HERE}.trajectory_options:FtdOptions",
            "as mtt, with experts in flat regions and a moving average",
        ),
        Component(
            "tesla",
            f"{_HERE}.tesla:Tesla",
            f"{_HERE}.trajectory_options:TeslaOptions",
            "as mtt, with TESLA's first-order gradient",
        ),
        Component(
            "frepo",
            f"{_HERE}.frepo:Frepo",
            f"{_HERE}.frepo_options:FrepoOptions",
            "kernel regression on the features of networks that train along",
        ),
        Component(
            "rcig",
            f"{_HERE}.rcig:Rcig",
            f"{_HERE}.rcig_options:RcigOptions",
            "implicit gradients of a linearised training with a regressed last layer",
        ),
    ]


@hookimpl
def distill_datasets() -> list[Component]:
    """Offer real images."""
    return [
        _dataset("digits:Digits", "handwritten digits, 8x8, no download"),
        _dataset("imagefolder:ImageFolder", "your own: a folder or .zip with a folder per class"),
        _dataset("shapes:Shapes", "generated shapes in colour, for tests and demonstrations"),
        _dataset("cub200:Cub200", "birds, CUB-200-2011"),
        _dataset("tiny_imagenet:TinyImagenet", "200 classes of ImageNet, 64x64"),
        _torchvision("cifar10", "Cifar10", "10 classes of objects, 32x32"),
        _torchvision("cifar100", "Cifar100", "100 classes of objects, 32x32"),
        _torchvision("mnist", "Mnist", "handwritten digits, 28x28"),
        _torchvision("fashion_mnist", "FashionMnist", "10 kinds of clothes, 28x28"),
        _torchvision("svhn", "Svhn", "house numbers, 32x32"),
    ]


def _dataset(target: str, summary: str) -> Component:
    """Name a dataset after its module; its options are `<class>Options` beside it."""
    where = f"{_HERE}.datasets.{target}"
    return Component(target.partition(":")[0], where, f"{where}Options", summary)


def _torchvision(name: str, made: str, summary: str) -> Component:
    where = f"{_HERE}.datasets.torchvision_sets"
    return Component(name, f"{where}:{made}", f"{where}:TorchvisionOptions", summary)


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

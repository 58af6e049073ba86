"""What distill brings itself, by name; nothing heavy is imported here."""

from __future__ import annotations

from distill_core.plugin import Component, Preset, hookimpl

DISTILL_API = "1.1"

_HERE = "distill_core.builtin"


@hookimpl
def distill_representations() -> list[Component]:
    """Offer whole images, learned or real."""
    return [
        Component(
            "images",
            f"{_HERE}.representations.images:Images",
            f"{_HERE}.representations.options:ImagesOptions",
            "whole images, the same number for every class",
        ),
        Component(
            "basis",
            f"{_HERE}.representations.basis:Basis",
            f"{_HERE}.representations.options:BasisOptions",
            "mixtures of a few images that all classes share",
        ),
        Component(
            "fred",
            f"{_HERE}.representations.fred:Fred",
            f"{_HERE}.representations.options:FredOptions",
            "images as a few coefficients of their cosine transform",
        ),
        Component(
            "ddif",
            f"{_HERE}.representations.ddif:Ddif",
            f"{_HERE}.representations.options:DdifOptions",
            "images drawn by small networks, each of its own",
        ),
        Component(
            "gsdd",
            f"{_HERE}.representations.gsdd:Gsdd",
            f"{_HERE}.representations.options:GsddOptions",
            "images as sums of a few coloured Gaussians",
        ),
        Component(
            "speed",
            f"{_HERE}.representations.speed:Speed",
            f"{_HERE}.representations.options:SpeedOptions",
            "sparse mixtures of shared tokens, decoded patch by patch",
        ),
        Component(
            "coreset",
            f"{_HERE}.representations.coreset:Coreset",
            f"{_HERE}.representations.options:CoresetOptions",
            "chosen real images, the same number for every class; nothing to learn",
        ),
    ]


@hookimpl
def distill_labelers() -> list[Component]:
    """Offer fixed and learned labels."""
    return [
        Component(
            "onehot", f"{_HERE}.labelers.onehot:Onehot", summary="fixed: the class at the image"
        ),
        Component(
            "soft", f"{_HERE}.labelers.soft:Soft", summary="learned: a soft label for every image"
        ),
        Component(
            "teacher",
            f"{_HERE}.labelers.teacher:Teacher",
            f"{_HERE}.labelers.options:TeacherOptions",
            "fixed: what a trained network sees in the starting images",
        ),
    ]


@hookimpl
def distill_orderers() -> list[Component]:
    """Offer orders that need no words."""
    orderers, options = f"{_HERE}.orderers.orderers", f"{_HERE}.orderers.options"
    return [
        Component("identity", f"{orderers}:Identity", summary="classes as they are numbered"),
        Component("random", f"{orderers}:Random", summary="a random order, from the seed"),
        Component(
            "given", f"{orderers}:Given", f"{options}:GivenOptions", "a class grid from a file"
        ),
        Component(
            "photometric",
            f"{orderers}:Photometric",
            f"{options}:PhotometricOptions",
            "classes of similar colour side by side",
        ),
    ]


@hookimpl
def distill_algorithms() -> list[Component]:
    """Offer ways to a hypergradient."""
    return [
        Component(
            "ratbptt",
            f"{_HERE}.algorithms.unrolled.ratbptt:RatBptt",
            f"{_HERE}.algorithms.unrolled.options:RatBpttOptions",
            "backpropagation through a random window of an inner loop",
        ),
        Component(
            "bptt",
            f"{_HERE}.algorithms.unrolled.bptt:Bptt",
            f"{_HERE}.algorithms.unrolled.options:BpttOptions",
            "backpropagation through the whole of an inner loop with momentum",
        ),
        Component(
            "dd",
            f"{_HERE}.algorithms.unrolled.dd:Dd",
            f"{_HERE}.algorithms.unrolled.options:DdOptions",
            "a few steps of gradient descent with learned rates",
        ),
        Component(
            "none",
            f"{_HERE}.algorithms.none:Nothing",
            "distill_core.plugin:Recipe",
            "learns nothing: the start is judged as it is; for coresets",
        ),
        Component(
            "dc",
            f"{_HERE}.algorithms.matching.gradients:GradientMatching",
            f"{_HERE}.algorithms.matching.options:DcOptions",
            "gradients of every class, matched under networks that train on the result",
        ),
        Component(
            "dsa",
            f"{_HERE}.algorithms.matching.gradients:GradientMatching",
            f"{_HERE}.algorithms.matching.options:DsaOptions",
            "dc with real and synthetic images augmented alike",
        ),
        Component(
            "dm",
            f"{_HERE}.algorithms.matching.distributions:DistributionMatching",
            f"{_HERE}.algorithms.matching.options:DmOptions",
            "class means of features, matched under random networks; fixed labels",
        ),
        Component(
            "mtt",
            f"{_HERE}.algorithms.trajectories.mtt:Mtt",
            f"{_HERE}.algorithms.trajectories.options:MttOptions",
            "a student's parameters matched to those of networks trained on the real data",
        ),
        Component(
            "ftd",
            f"{_HERE}.algorithms.trajectories.ftd:Ftd",
            f"{_HERE}.algorithms.trajectories.options:FtdOptions",
            "as mtt, with experts in flat regions and a moving average",
        ),
        Component(
            "tesla",
            f"{_HERE}.algorithms.trajectories.tesla:Tesla",
            f"{_HERE}.algorithms.trajectories.options:TeslaOptions",
            "as mtt, with TESLA's first-order gradient",
        ),
        Component(
            "frepo",
            f"{_HERE}.algorithms.regression.frepo:Frepo",
            f"{_HERE}.algorithms.regression.options:FrepoOptions",
            "kernel regression on the features of networks that train along",
        ),
        Component(
            "rcig",
            f"{_HERE}.algorithms.regression.rcig:Rcig",
            f"{_HERE}.algorithms.regression.options:RcigOptions",
            "implicit gradients of a linearised training with a regressed last layer",
        ),
    ]


@hookimpl
def distill_datasets() -> list[Component]:
    """Offer real images."""
    return [
        _dataset("digits:Digits", "handwritten digits, 8x8, no download"),
        _dataset("imagefolder:ImageFolder", "your own: a folder or .zip with a folder per class"),
        _dataset("hf:Hf", "Hugging Face datasets on the disk: save_to_disk, or parquet files"),
        _dataset("webdataset:WebDataset", "WebDataset: .tar shards of KEY.jpg with KEY.cls"),
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
    """Name a dataset after its module; its options are `<class>Options`."""
    module, _, made = target.partition(":")
    options = f"{_HERE}.datasets.options:{made}Options"
    return Component(module, f"{_HERE}.datasets.{target}", options, summary)


def _torchvision(name: str, made: str, summary: str) -> Component:
    options = f"{_HERE}.datasets.options:TorchvisionOptions"
    return Component(name, f"{_HERE}.datasets.torchvision_sets:{made}", options, summary)


@hookimpl
def distill_backbones() -> list[Component]:
    """Offer networks."""
    return [
        Component(
            "convnet",
            f"{_HERE}.backbones.convnet:ConvNet",
            f"{_HERE}.backbones.options:ConvNetOptions",
            "blocks of convolution, norm, activation and pooling, as in the literature",
        ),
        Component(
            "timm",
            f"{_HERE}.backbones.timm_backbone:TimmBackbone",
            f"{_HERE}.backbones.options:TimmOptions",
            "any network of the timm library that accepts the image size",
        ),
    ]


@hookimpl
def distill_presets() -> list[Preset]:
    """Offer settings of the decoders."""
    from distill_core.builtin.presets import decoder_presets, four_bit_presets

    return [*decoder_presets(), *four_bit_presets()]

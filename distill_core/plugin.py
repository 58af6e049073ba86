"""The public face for plugin authors: everything that a plugin may import from distill.

Names that need torch or pydantic are imported on first use, so that an entry-point module that
only offers components stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from distill_core.hookspecs import API_VERSION, hookimpl
from distill_core.presets import Preset
from registry import Component, EnvironmentFault, InputError, OptionError

if TYPE_CHECKING:
    from distill_core.arrangement import (
        arrange,
        grid_adjacency,
        swap_descent,
    )
    from distill_core.augment import Augmentation, Draw
    from distill_core.backbones import new_backbone
    from distill_core.cache import cache_dir
    from distill_core.class_names import (
        grid_of_names,
        match_names,
    )
    from distill_core.clipping import EmaClip, clip_norm, gradient_norm
    from distill_core.contracts import (
        Algorithm,
        Backbone,
        ConvBlocks,
        ConvLayer,
        Dataset,
        Estimate,
        Labeler,
        Orderer,
        Representation,
        Task,
    )
    from distill_core.coverage import normalize_by_coverage
    from distill_core.data import DataSpec, RawData, RealData, Split
    from distill_core.divergence import DivergenceError
    from distill_core.experts import ExpertRecipe
    from distill_core.experts_store import Experts
    from distill_core.files import read_tensors, write_tensors
    from distill_core.functional import FlatModel
    from distill_core.geometry import (
        Boxes,
        Layout,
        Placement,
        class_coverage,
        gather_boxes,
        grid_cells,
        overlap_area,
        period_of,
    )
    from distill_core.grid import GridShape
    from distill_core.hypergradient.batches import InnerBatches
    from distill_core.hypergradient.engine import Engine, mixes_images
    from distill_core.hypergradient.features import Features
    from distill_core.hypergradient.inner_loss import InnerLoss
    from distill_core.hypergradient.jacobian import AutogradJacobian, Jacobian
    from distill_core.hypergradient.optimizers import Adam, AdamState, InnerOptimizer, Sgd
    from distill_core.hypergradient.outer_loss import OuterLoss, real_loss, real_sums
    from distill_core.hypergradient.unroll import Batches, Unrolled, send, unroll
    from distill_core.labels import (
        ItemTable,
        check_every_class,
        check_items,
        item_coverage,
        majority_labels,
        normalise_rows,
    )
    from distill_core.measure import PeakBytes
    from distill_core.ordering import (
        class_features,
        class_grid_shape,
        class_means,
        cosine_distances,
        neighbour_distance,
        ordering_score,
    )
    from distill_core.real_budget import RealBudget, enlarge, real_budget, shrink
    from distill_core.recipe import Recipe
    from distill_core.starting import (
        draw_real,
        starting_noise,
    )
    from distill_core.streams import Streams
    from distill_core.synthetic import Batch, Budget, SyntheticDataset
    from distill_core.transfer import all_to_device, read, to_device, wait
    from distill_core.whitening import Whitening
    from registry import Options, about

_LAZY = {
    "Adam": "distill_core.hypergradient.optimizers",
    "AdamState": "distill_core.hypergradient.optimizers",
    "Algorithm": "distill_core.contracts",
    "Augmentation": "distill_core.augment",
    "AutogradJacobian": "distill_core.hypergradient.jacobian",
    "Backbone": "distill_core.contracts",
    "Batch": "distill_core.synthetic",
    "Batches": "distill_core.hypergradient.unroll",
    "Boxes": "distill_core.geometry",
    "Budget": "distill_core.synthetic",
    "ConvBlocks": "distill_core.contracts",
    "ConvLayer": "distill_core.contracts",
    "DataSpec": "distill_core.data",
    "Dataset": "distill_core.contracts",
    "DivergenceError": "distill_core.divergence",
    "Draw": "distill_core.augment",
    "EmaClip": "distill_core.clipping",
    "Engine": "distill_core.hypergradient.engine",
    "Estimate": "distill_core.contracts",
    "ExpertRecipe": "distill_core.experts",
    "Experts": "distill_core.experts_store",
    "Features": "distill_core.hypergradient.features",
    "FlatModel": "distill_core.functional",
    "GridShape": "distill_core.grid",
    "InnerBatches": "distill_core.hypergradient.batches",
    "InnerLoss": "distill_core.hypergradient.inner_loss",
    "InnerOptimizer": "distill_core.hypergradient.optimizers",
    "ItemTable": "distill_core.labels",
    "Jacobian": "distill_core.hypergradient.jacobian",
    "Labeler": "distill_core.contracts",
    "Layout": "distill_core.geometry",
    "Options": "registry.options",
    "Orderer": "distill_core.contracts",
    "OuterLoss": "distill_core.hypergradient.outer_loss",
    "PeakBytes": "distill_core.measure",
    "Placement": "distill_core.geometry",
    "RawData": "distill_core.data",
    "RealBudget": "distill_core.real_budget",
    "RealData": "distill_core.data",
    "Recipe": "distill_core.recipe",
    "Representation": "distill_core.contracts",
    "Sgd": "distill_core.hypergradient.optimizers",
    "Split": "distill_core.data",
    "Streams": "distill_core.streams",
    "SyntheticDataset": "distill_core.synthetic",
    "Task": "distill_core.contracts",
    "Unrolled": "distill_core.hypergradient.unroll",
    "Whitening": "distill_core.whitening",
    "about": "registry.options",
    "all_to_device": "distill_core.transfer",
    "arrange": "distill_core.arrangement",
    "cache_dir": "distill_core.cache",
    "check_every_class": "distill_core.labels",
    "check_items": "distill_core.labels",
    "class_coverage": "distill_core.geometry",
    "class_features": "distill_core.ordering",
    "class_grid_shape": "distill_core.ordering",
    "class_means": "distill_core.ordering",
    "clip_norm": "distill_core.clipping",
    "cosine_distances": "distill_core.ordering",
    "draw_real": "distill_core.starting",
    "enlarge": "distill_core.real_budget",
    "gather_boxes": "distill_core.geometry",
    "gradient_norm": "distill_core.clipping",
    "grid_adjacency": "distill_core.arrangement",
    "grid_cells": "distill_core.geometry",
    "grid_of_names": "distill_core.class_names",
    "item_coverage": "distill_core.labels",
    "majority_labels": "distill_core.labels",
    "match_names": "distill_core.class_names",
    "mixes_images": "distill_core.hypergradient.engine",
    "neighbour_distance": "distill_core.ordering",
    "new_backbone": "distill_core.backbones",
    "normalise_rows": "distill_core.labels",
    "normalize_by_coverage": "distill_core.coverage",
    "ordering_score": "distill_core.ordering",
    "overlap_area": "distill_core.geometry",
    "period_of": "distill_core.geometry",
    "read": "distill_core.transfer",
    "read_tensors": "distill_core.files",
    "real_budget": "distill_core.real_budget",
    "real_loss": "distill_core.hypergradient.outer_loss",
    "real_sums": "distill_core.hypergradient.outer_loss",
    "send": "distill_core.hypergradient.unroll",
    "shrink": "distill_core.real_budget",
    "starting_noise": "distill_core.starting",
    "swap_descent": "distill_core.arrangement",
    "to_device": "distill_core.transfer",
    "unroll": "distill_core.hypergradient.unroll",
    "wait": "distill_core.transfer",
    "write_tensors": "distill_core.files",
}

__all__ = [
    "API_VERSION",
    "Adam",
    "AdamState",
    "Algorithm",
    "Augmentation",
    "AutogradJacobian",
    "Backbone",
    "Batch",
    "Batches",
    "Boxes",
    "Budget",
    "Component",
    "ConvBlocks",
    "ConvLayer",
    "DataSpec",
    "Dataset",
    "DivergenceError",
    "Draw",
    "EmaClip",
    "Engine",
    "EnvironmentFault",
    "Estimate",
    "ExpertRecipe",
    "Experts",
    "Features",
    "FlatModel",
    "GridShape",
    "InnerBatches",
    "InnerLoss",
    "InnerOptimizer",
    "InputError",
    "ItemTable",
    "Jacobian",
    "Labeler",
    "Layout",
    "OptionError",
    "Options",
    "Orderer",
    "OuterLoss",
    "PeakBytes",
    "Placement",
    "Preset",
    "RawData",
    "RealBudget",
    "RealData",
    "Recipe",
    "Representation",
    "Sgd",
    "Split",
    "Streams",
    "SyntheticDataset",
    "Task",
    "Unrolled",
    "Whitening",
    "about",
    "all_to_device",
    "arrange",
    "cache_dir",
    "check_every_class",
    "check_items",
    "class_coverage",
    "class_features",
    "class_grid_shape",
    "class_means",
    "clip_norm",
    "cosine_distances",
    "draw_real",
    "enlarge",
    "gather_boxes",
    "gradient_norm",
    "grid_adjacency",
    "grid_cells",
    "grid_of_names",
    "hookimpl",
    "item_coverage",
    "majority_labels",
    "match_names",
    "mixes_images",
    "neighbour_distance",
    "new_backbone",
    "normalise_rows",
    "normalize_by_coverage",
    "ordering_score",
    "overlap_area",
    "period_of",
    "read",
    "read_tensors",
    "real_budget",
    "real_loss",
    "real_sums",
    "send",
    "shrink",
    "starting_noise",
    "swap_descent",
    "to_device",
    "unroll",
    "wait",
    "write_tensors",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'distill_core.plugin' has no attribute '{name}'")

"""The public face for plugin authors: everything that a plugin may import from distill.

Names that need torch or pydantic are imported on first use, so that an entry-point module that
only offers components stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from distill_core.hookspecs import hookimpl
from distill_core.presets import Preset
from registry import Component, EnvironmentFault, InputError, OptionError

if TYPE_CHECKING:
    from distill_core.arrangement import (
        arrange,
        grid_adjacency,
        swap_descent,
    )
    from distill_core.augment import Augmentation
    from distill_core.class_names import (
        grid_of_names,
        match_names,
    )
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
    from distill_core.data import DataSpec, RawData, RealData, Split
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
    from distill_core.labels import (
        ItemTable,
        check_every_class,
        item_coverage,
        majority_labels,
        normalise_rows,
    )
    from distill_core.ordering import (
        class_features,
        class_grid_shape,
        class_means,
        cosine_distances,
        neighbour_distance,
        ordering_score,
    )
    from distill_core.recipe import Recipe
    from distill_core.starting import (
        draw_real,
        starting_noise,
    )
    from distill_core.streams import Streams
    from distill_core.synthetic import Batch, Budget, SyntheticDataset
    from registry import Options

_LAZY = {
    "Algorithm": "distill_core.contracts",
    "Augmentation": "distill_core.augment",
    "Backbone": "distill_core.contracts",
    "Batch": "distill_core.synthetic",
    "Boxes": "distill_core.geometry",
    "Budget": "distill_core.synthetic",
    "ConvBlocks": "distill_core.contracts",
    "ConvLayer": "distill_core.contracts",
    "DataSpec": "distill_core.data",
    "Dataset": "distill_core.contracts",
    "Estimate": "distill_core.contracts",
    "GridShape": "distill_core.grid",
    "ItemTable": "distill_core.labels",
    "Labeler": "distill_core.contracts",
    "Layout": "distill_core.geometry",
    "Options": "registry.options",
    "Orderer": "distill_core.contracts",
    "Placement": "distill_core.geometry",
    "RawData": "distill_core.data",
    "RealData": "distill_core.data",
    "Recipe": "distill_core.recipe",
    "Representation": "distill_core.contracts",
    "Split": "distill_core.data",
    "Streams": "distill_core.streams",
    "SyntheticDataset": "distill_core.synthetic",
    "Task": "distill_core.contracts",
    "arrange": "distill_core.arrangement",
    "check_every_class": "distill_core.labels",
    "class_coverage": "distill_core.geometry",
    "class_features": "distill_core.ordering",
    "class_grid_shape": "distill_core.ordering",
    "class_means": "distill_core.ordering",
    "cosine_distances": "distill_core.ordering",
    "draw_real": "distill_core.starting",
    "gather_boxes": "distill_core.geometry",
    "grid_adjacency": "distill_core.arrangement",
    "grid_cells": "distill_core.geometry",
    "grid_of_names": "distill_core.class_names",
    "item_coverage": "distill_core.labels",
    "majority_labels": "distill_core.labels",
    "match_names": "distill_core.class_names",
    "neighbour_distance": "distill_core.ordering",
    "normalise_rows": "distill_core.labels",
    "ordering_score": "distill_core.ordering",
    "overlap_area": "distill_core.geometry",
    "period_of": "distill_core.geometry",
    "starting_noise": "distill_core.starting",
    "swap_descent": "distill_core.arrangement",
}

__all__ = [
    "Algorithm",
    "Augmentation",
    "Backbone",
    "Batch",
    "Boxes",
    "Budget",
    "Component",
    "ConvBlocks",
    "ConvLayer",
    "DataSpec",
    "Dataset",
    "EnvironmentFault",
    "Estimate",
    "GridShape",
    "InputError",
    "ItemTable",
    "Labeler",
    "Layout",
    "OptionError",
    "Options",
    "Orderer",
    "Placement",
    "Preset",
    "RawData",
    "RealData",
    "Recipe",
    "Representation",
    "Split",
    "Streams",
    "SyntheticDataset",
    "Task",
    "arrange",
    "check_every_class",
    "class_coverage",
    "class_features",
    "class_grid_shape",
    "class_means",
    "cosine_distances",
    "draw_real",
    "gather_boxes",
    "grid_adjacency",
    "grid_cells",
    "grid_of_names",
    "hookimpl",
    "item_coverage",
    "majority_labels",
    "match_names",
    "neighbour_distance",
    "normalise_rows",
    "ordering_score",
    "overlap_area",
    "period_of",
    "starting_noise",
    "swap_descent",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'distill_core.plugin' has no attribute '{name}'")

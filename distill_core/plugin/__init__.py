"""The public face for plugin authors: everything that a plugin may import from distill.

The names come in two tiers. `CONTRACTS` are what a component implements, is given and gives back:
they stay as they are through API 1.x. `TOOLS` are helpers that our own components use: they may
change in a minor version.

Both tables say by heading where each name lives. A name is imported on first use, so that an
entry-point module that only offers components loads neither torch nor pydantic. Type checkers read
`__init__.pyi`, which `python -m tests.distill_core.plugin_stub` writes from these tables.

May import: training and what stands below it, by name and when it is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

Table = dict[str, dict[str, tuple[str, ...]]]  # heading: module: names

CONTRACTS: Table = {
    "Every plugin": {
        "distill_core.hookspecs": ("API_VERSION", "Preset", "hookimpl"),
        "registry": ("Component", "Options", "about"),
    },
    "Errors": {
        "distill_core.contracts.algorithm": ("DivergenceError",),
        "registry": (
            "EnvironmentFault",
            "ExplainedError",
            "InputError",
            "OptionError",
            "UnknownNameError",
        ),
    },
    "Representations": {
        "distill_core.contracts.components": ("Representation",),
        "distill_core.contracts.geometry": (
            "Boxes",
            "Layout",
            "Placement",
            "class_coverage",
            "grid_cells",
            "overlap_area",
            "period_of",
        ),
        "distill_core.contracts.gather": ("gather_boxes",),
    },
    "Labelers and orderers": {
        "distill_core.contracts.components": ("Labeler", "Orderer"),
    },
    "Algorithms": {
        "distill_core.contracts.algorithm": ("Algorithm", "DrawsItems", "Estimate", "Task"),
        "distill_core.contracts.derivatives": ("Engine", "Features", "InnerLoss", "Jacobian"),
        "distill_core.contracts.experts": ("ExpertRecipe", "Experts"),
        "distill_core.contracts.recipes": ("Recipe",),
        "distill_core.contracts.streams": ("Streams", "seeded"),
        "distill_core.contracts.synthetic": ("Batch", "Budget", "SyntheticDataset"),
    },
    "Datasets": {
        "distill_core.contracts.components": ("Dataset", "KeptDataset"),
        "distill_core.contracts.data": (
            "AUGMENTATIONS",
            "DataSpec",
            "RawData",
            "RealData",
            "Room",
            "Sources",
            "Split",
        ),
        "distill_core.contracts.whitening": ("Whitening",),
    },
    "Backbones": {
        "distill_core.contracts.network": ("Backbone", "ConvBlocks", "ConvLayer", "FlatModel"),
    },
    "Devices": {
        "distill_core.contracts.transfer": ("all_to_device", "read", "to_device", "wait"),
    },
}

TOOLS: Table = {
    "Layout, labels and class order": {
        "distill_core.config.grid_shape": ("GridShape",),
        "distill_core.layout.arrange": ("arrange", "grid_adjacency", "swap_descent"),
        "distill_core.layout.class_names": ("grid_of_names", "match_names"),
        "distill_core.layout.labels": (
            "ItemTable",
            "check_every_class",
            "check_items",
            "check_touched",
            "item_coverage",
            "majority_labels",
            "normalise_rows",
            "normalize_by_coverage",
            "rows_by_coverage",
        ),
        "distill_core.layout.ordering": (
            "class_features",
            "class_grid_shape",
            "class_means",
            "cosine_distances",
            "neighbour_distance",
            "ordering_score",
        ),
    },
    "Real images": {
        "distill_core.data.augment": ("Augmentation", "Draw"),
        "distill_core.data.cosines": ("cosine_basis", "lowest_frequencies"),
        "distill_core.data.downsample": ("downsample", "upsample"),
        "distill_core.data.gaussians": (
            "GAUSSIAN_BORDER",
            "colours_at",
            "even_factors",
            "sum_gaussians",
        ),
        "distill_core.data.initial_pixels": ("draw_real", "fit_images", "starting_noise"),
        "distill_core.data.gaussian_count": ("points_of",),
        "distill_core.data.picture_files": ("decode_picture", "picture_size"),
        "distill_core.data.picture_notes": ("PictureNotes", "shown"),
        "distill_core.data.prepare": ("check_class_names", "held_out"),
        "distill_core.data.real_budget": ("RealBudget", "enlarge", "real_budget", "shrink"),
        "distill_core.data.resize": ("eight_bit",),
    },
    "Derivatives of training": {
        "distill_core.engine.clipping": ("EmaClip", "clip_norm", "gradient_norm"),
        "distill_core.engine.engine": ("mixes_images",),
        "distill_core.engine.fresh_networks": ("new_backbone",),
        "distill_core.engine.inner_batches": ("InnerBatches",),
        "distill_core.engine.jacobian": ("AutogradJacobian",),
        "distill_core.engine.optimizers": ("Adam", "AdamState", "InnerOptimizer", "Sgd"),
        "distill_core.engine.outer_loss": ("OuterLoss", "real_loss", "real_sums"),
        "distill_core.engine.unroll": ("Batches", "Unrolled", "send", "unroll"),
    },
    "Files and memory": {
        "distill_core.system.cache": ("at_home", "cache_dir"),
        "distill_core.system.files": ("parse_json", "parse_toml", "read_tensors", "write_tensors"),
        "distill_core.system.cached_tensors": (
            "ANY_SIDE",
            "Misfit",
            "keep_tensors",
            "kept_tensors",
            "made_anew",
        ),
        "distill_core.system.memory": ("PeakBytes",),
        "distill_core.system.prefetch": ("prefetched",),
        "distill_core.system.stamps": ("stamps_of",),
        "distill_core.system.units": ("shortened",),
        "distill_core.system.versions": ("check_torchvision",),
    },
}


def homes(table: Table) -> dict[str, str]:
    """Return the module of every name in a table."""
    return {
        name: module
        for modules in table.values()
        for module, names in modules.items()
        for name in names
    }


_TIERS = (homes(CONTRACTS), homes(TOOLS))
_HOMES = _TIERS[0] | _TIERS[1]

__all__ = list(_HOMES)


def tier(name: str) -> int:
    """Return 1 for a name that is stable through API 1.x, 2 for one that may change earlier.

    Raises:
        KeyError: a plugin may not import that name.

    >>> tier("Boxes"), tier("swap_descent")
    (1, 2)
    """
    for number, names in enumerate(_TIERS, start=1):
        if name in names:
            return number
    raise KeyError(name)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'distill_core.plugin' has no attribute '{name}'")

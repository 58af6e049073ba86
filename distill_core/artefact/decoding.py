"""A result from stored.safetensors: its numbers, decoded by the code of its components.

The code is that of the plugins which are installed here; the file has numbers and settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_core.artefact.decoding_memory import WithinMemory, check_room
from distill_core.artefact.packing import PREFIXES, plain_tensors
from distill_core.artefact.soundness import refuse
from distill_core.artefact.storage import FLOAT
from distill_core.artefact.stored import as_distributions
from distill_core.artefact.stored_file import decoded_state
from distill_core.config.discovery import discover
from distill_core.contracts.data import DataSpec
from distill_core.contracts.geometry import Placement
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.contracts.whitening import Whitening
from distill_core.hookspecs import BY_OPTION
from registry import Builder, ExplainedError, InputError, Plugins, UnknownNameError

MOST_SAID = 300  # characters of what a component says of settings, of any length


def spec_of(metadata: Mapping[str, Any]) -> DataSpec:
    """Return the facts about the real data that a result states."""
    return DataSpec(
        metadata["dataset"],
        tuple(metadata["class_names"]),
        tuple(metadata["image_shape"]),
        tuple(metadata["augmentations"]),
        metadata.get("fit", "crop"),
    )


@torch.no_grad()
def decoded(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], whitening: Whitening
) -> dict[str, Tensor]:
    """Return the tensors of a result as distilled.safetensors has them, without states.

    Args:
        file: where they were read.
        tensors: of a stored.safetensors, as they are.
        metadata: of it; `check_names` has let its class names pass.
        whitening: of the data; needed by few representations.

    Raises:
        InputError: a component is not installed or refuses, or the file is too small for so much.
    """
    _check_sizes(file, metadata)
    with WithinMemory(file):
        return _decoded(file, tensors, metadata, whitening)


def _decoded(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], whitening: Whitening
) -> dict[str, Tensor]:
    spec, plugins, made_with = spec_of(metadata), discover(), metadata["made_with"]
    image = FLOAT * prod(spec.image_shape)
    check_room(file, (made_with["ipc"] or 1) * spec.num_classes * image)
    build = _builder(file, plugins, "repr", metadata)
    draws = ("item_draws",) if build.takes("item_draws") else ()
    runtime = {name: made_with[name] for name in ("ipc", *draws)}
    representation = _made(file, build, spec=spec, **runtime)
    representation.use_whitening(whitening)
    layout = representation.layout
    check_room(file, len(layout.items) * (image + FLOAT * spec.num_classes))
    placement = Placement(layout, _grid(file, metadata, layout.grid_shape))
    labeler = _made(file, _builder(file, plugins, "labeler", metadata), placement=placement)
    synthetic = SyntheticDataset(representation, labeler, placement=placement, spec=spec)
    synthetic.load_state_dict(decoded_state(tensors, metadata))
    found = plain_tensors(synthetic)
    if labeler.simplex and any(_is_label(name) for name in metadata["types"]):
        found["labels"] = as_distributions(found["labels"])
    return found


def _check_sizes(file: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse sizes that are none, before somebody computes with them."""
    shape, ipc = metadata["image_shape"], metadata["made_with"]["ipc"]
    sides = isinstance(shape, list) and len(shape) == 3
    if not sides or not all(type(side) is int and side > 0 for side in shape):
        refuse(file, f"its images have shape {shape!r:.60}", "three whole numbers above 0")
    if ipc is not None and (type(ipc) not in (int, float) or not 0 < ipc < inf):
        refuse(file, f"it has {ipc!r:.60} images per class", "a number above 0")


def _grid(file: Path, metadata: Mapping[str, Any], shape: tuple[int, int]) -> Tensor:
    """Return the class grid, a permutation of the classes."""
    grid = torch.tensor(metadata["class_grid"])
    classes = list(range(prod(shape)))
    if grid.shape != shape or sorted(grid.flatten().tolist()) != classes:
        found = metadata["class_grid"]
        size = f"{shape[0]}x{shape[1]}"
        refuse(file, f"it has classes {found!r:.60} on a grid of {size}", "each class once")
    return grid


def _is_label(name: str) -> bool:
    return name.startswith(f"{PREFIXES['labeler']}.")


def _builder(file: Path, plugins: Plugins, option: str, metadata: Mapping[str, Any]) -> Builder:
    """Look up a component of the file."""
    stated, kind = metadata["components"][option], BY_OPTION[option].name
    try:
        return plugins[kind].builder(stated["name"], stated["options"])
    except UnknownNameError as missing:
        plugin, maker = (str(stated.get(key)) for key in ("plugin", "distribution"))
        if not (plugin.isprintable() and maker.isprintable()):
            refuse(file, "the names of its plugins have characters that cannot be shown", "names")
        raise InputError(
            f"{file} is decoded by {kind} '{stated['name']:.60}', which is not installed here.",
            expected=f"plugin '{plugin:.60}' of the package {maker:.60}, as the file says.",
            next="install that package if you trust it, or ask who made it for `distill export RUN "
            "--format tensors`, which needs no plugin.",
        ) from missing
    except ExplainedError as refusal:
        raise _refused(file, f"{kind} '{stated['name']:.60}'", refusal) from refusal


def _made(file: Path, build: Builder, **runtime: Any) -> Any:
    try:
        return build(**runtime)
    except ExplainedError as refusal:
        raise _refused(file, str(build), refusal) from refusal


def _refused(file: Path, who: str, refusal: ExplainedError) -> InputError:
    says = refusal.what if len(refusal.what) <= MOST_SAID else f"{refusal.what[:MOST_SAID]}..."
    return InputError(
        f"{file} cannot be decoded: {who} says: {says}",
        expected="settings with which it was made.",
        next="restore it from a copy, or install the version of that package which made it.",
    )

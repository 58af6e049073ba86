"""stored.safetensors: what must be stored to train on a result, in the types it is stored in.

    data.NAME   numbers of the representation: a number of bits for each code, packed into bytes,
                or bfloat16, or as they are
    label.NAME  numbers of the labeler
    NAME.low, NAME.step  the scales of NAME: a number is low + code * step

It is the file of a result that is not float32 pixels (`result_file.py`). Its metadata say by NAME
which tensors have such a type (`types`), and their `shapes`; and all that distilled.safetensors
says of another result, with what the representation was made with, so that it can be decoded
(`decoding.py`). Its tensors take as many bytes as are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor

from distill_core.artefact.packing import PREFIXES
from distill_core.artefact.storage import Storage
from distill_core.artefact.stored_numbers import StoredNumbers, unpacked
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.system.files import read_tensors, tensor_bytes
from registry import InputError

CONTENT = "stored numbers"
HOW_TO_LOAD = (
    "By distill_core.load(path), which decodes the images by the components that are named here. "
    "`distill export RUN --format tensors` writes images and labels that need no plugin. Images "
    "are whitened, labels soft. Test images need the same whitening."
)
STORED_FORMAT = 2  # 1 had labels in float32 alone, and one type for all of the representation


def has_stored_file(synthetic: SyntheticDataset, storage: Storage) -> bool:
    """Say whether a dataset is stored as anything but float32 pixels and labels, as they are used.

    Then its images are decoded when they are read.

    Args:
        synthetic: the dataset.
        storage: what it takes.
    """
    layout = synthetic.placement.layout
    pixels = layout.num_canvases * synthetic.spec.image_shape[0] * prod(layout.canvas_hw)
    typed = any(isinstance(part, StoredNumbers) for part in _parts(synthetic).values())
    return typed or not storage.is_pixels(pixels)


def stored_bytes(synthetic: SyntheticDataset, about: Mapping[str, Any]) -> bytes:
    """Return the file of a dataset.

    Args:
        synthetic: the dataset.
        about: what the file of any result says of it, and `made_with`: what the representation
            was made with beside options and data (`Plan.made_with`).
    """
    tensors: dict[str, Tensor] = {}
    types: dict[str, str] = {}
    shapes: dict[str, list[int]] = {}
    for prefix, part in _parts(synthetic).items():
        if isinstance(part, StoredNumbers):
            packed = part.packed()
            shapes |= {f"{prefix}.{name}": shape for name, shape in part.shapes().items()}
            types |= {f"{prefix}.{name}": part.kind for name in part.shapes()}
        else:
            packed = {name: tensor.cpu() for name, tensor in part.state_dict().items()}
        tensors |= {f"{prefix}.{name}": tensor for name, tensor in packed.items()}
    metadata = {
        **about,
        "content": CONTENT,
        "format": STORED_FORMAT,
        "types": types,
        "shapes": shapes,
        "class_grid": synthetic.placement.class_grid.tolist(),
        "how_to_load": HOW_TO_LOAD,
    }
    return tensor_bytes(tensors, metadata)


def read_stored(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a file as they are, and its metadata as of the newest format.

    Raises:
        InputError: it is missing or damaged, or of another format.
    """
    tensors, metadata = read_tensors(file)
    if metadata.get("format") not in (1, STORED_FORMAT):
        raise InputError(
            f"{file} has format {metadata.get('format')!r}.",
            expected=f"format {STORED_FORMAT}, or an earlier one.",
            next="use the version of distill that manifest.json names.",
        )
    return tensors, metadata if metadata["format"] == STORED_FORMAT else _newest(metadata)


def is_stored(metadata: Mapping[str, Any]) -> bool:
    """Say whether metadata are those of such a file."""
    return metadata.get("content") == CONTENT


def decoded_state(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state of the plain dataset, float32, for `SyntheticDataset.load_state_dict`.

    Args:
        tensors: of the file.
        metadata: of the newest format.
    """
    whole = unpacked(tensors, metadata["types"], metadata["shapes"])
    return {
        f"{part}.{name.removeprefix(f'{prefix}.')}": tensor
        for part, prefix in PREFIXES.items()
        for name, tensor in whole.items()
        if name.startswith(f"{prefix}.")
    }


def _newest(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of format 1 as they would be now."""
    data, kind = PREFIXES["representation"], metadata["type"]
    shapes = {f"{data}.{name}": shape for name, shape in metadata["shapes"].items()}
    return {**metadata, "types": dict.fromkeys(shapes, kind), "shapes": shapes}


def _parts(synthetic: SyntheticDataset) -> dict[str, Any]:
    return {prefix: getattr(synthetic, part) for part, prefix in PREFIXES.items()}

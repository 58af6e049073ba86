"""stored.safetensors: what must be stored to train on a result, in the types it is stored in.

    data.NAME                     a number of bits for each code, packed into bytes, or bfloat16
    data.NAME.low, data.NAME.step the scales: a number is low + code * step
    label.NAME                    the state of the labeler

Its tensors take as many bytes as the metre says. The images that they decode to are in
distilled.safetensors, so that a reader needs no plugin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from distill_core.artefact.contents import STORED
from distill_core.artefact.packing import PREFIXES
from distill_core.artefact.stored import StoredAs, unpacked
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.system.files import read_tensors, tensor_bytes
from registry import InputError

STORED_FORMAT = 1


def stored_bytes(synthetic: SyntheticDataset) -> bytes:
    """Return the file of a dataset whose representation has a stored type."""
    representation = synthetic.representation
    assert isinstance(representation, StoredAs)
    data, label = PREFIXES["representation"], PREFIXES["labeler"]
    labels = {name: tensor.cpu() for name, tensor in synthetic.labeler.state_dict().items()}
    tensors = {f"{data}.{name}": tensor for name, tensor in representation.packed().items()}
    tensors |= {f"{label}.{name}": tensor for name, tensor in labels.items()}
    metadata = {
        "format": STORED_FORMAT,
        "type": representation.kind,
        "shapes": representation.shapes(),
        "class_grid": synthetic.placement.class_grid.tolist(),
    }
    return tensor_bytes(tensors, metadata)


def read_stored(run_dir: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of the file as they are, and its metadata.

    Raises:
        InputError: it is missing or damaged, or of another format.
    """
    tensors, metadata = read_tensors(run_dir / STORED)
    if metadata.get("format") != STORED_FORMAT:
        raise InputError(
            f"{run_dir / STORED} has format {metadata.get('format')!r}.",
            expected=f"format {STORED_FORMAT}.",
            next="use the version of distill that manifest.json names.",
        )
    return tensors, metadata


def decoded_states(run_dir: Path) -> dict[str, dict[str, Tensor]]:
    """Return the states of representation and labeler, float32, for `load_state_dict`."""
    tensors, metadata = read_stored(run_dir)
    parts = {
        part: {
            name.removeprefix(f"{prefix}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{prefix}.")
        }
        for part, prefix in PREFIXES.items()
    }
    parts["representation"] = unpacked(
        parts["representation"], metadata["type"], metadata["shapes"]
    )
    return parts

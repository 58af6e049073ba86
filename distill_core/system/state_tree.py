"""State as a tree of dictionaries, lists, tensors, numbers and text; nothing is pickled.

Tensors are stored apart, each under its path in the tree; the rest is JSON. A checkpoint is such a
tree in a file, and ranks send each other such trees in messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_TREE = "tree"
_ROOT = "value"


def encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return `value` as JSON; put its tensors into `tensors`, each under its path.

    Raises:
        TypeError: a part has another type; the message names its path.
    """
    if isinstance(value, Tensor):
        while name in tensors:  # keys with dots, such as "a.b" beside "b" in "a"
            name = f"{name}."
        tensors[name] = value.detach()
        return {"tensor": name}
    if isinstance(value, Mapping):
        items = [[key, encode(part, f"{name}.{key}", tensors)] for key, part in value.items()]
        return {"items": items}
    if isinstance(value, (list, tuple)):
        return [encode(part, f"{name}.{place}", tensors) for place, part in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which a checkpoint cannot hold")


def decode(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that `encode` was given; tuples come back as lists."""
    if isinstance(tree, dict):
        if "tensor" in tree:
            return tensors[tree["tensor"]]
        return {key: decode(part, tensors) for key, part in tree["items"]}
    if isinstance(tree, list):
        return [decode(part, tensors) for part in tree]
    return tree


def copied(value: Any) -> Any:
    """Return the value with copies of its tensors, so that later changes do not affect it."""
    tensors: dict[str, Tensor] = {}
    tree = encode(value, _ROOT, tensors)
    return decode(tree, {name: tensor.clone() for name, tensor in tensors.items()})


def pack(value: Any) -> bytes:
    """Write a value as bytes.

    >>> unpack(pack({"step": 3, "rows": [torch.arange(2), None]}))
    {'step': 3, 'rows': [tensor([0, 1]), None]}
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    text = json.dumps(encode(value, _ROOT, tensors)).encode()
    plain = {
        name: tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    plain[_TREE] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    data: bytes = save(plain)
    return data


def unpack(data: bytes) -> Any:
    """Read what `pack` wrote; tensors are on the CPU."""
    from safetensors.torch import load

    tensors = load(data)
    return decode(json.loads(tensors.pop(_TREE).numpy().tobytes()), tensors)

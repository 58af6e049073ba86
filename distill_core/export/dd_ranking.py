"""Format `dd-ranking`: the input of DD-Ranking 0.2, and the exact distilled set.

images.pt            (K ipc, C, h, w) float32, whitened, class by class
labels.pt            (K ipc, K) logarithms of the soft labels: DD-Ranking applies a softmax to them
lr.pt                learning rate of the recipe
poster.safetensors   the canvases, soft labels and index tables of all n images, untouched
geometry.json        where every training image lies on the canvases, and the class grid

DD-Ranking wants ipc images for each class, in order. Posters have patches between the classes, so
for ipc = ceil(n / K) every class gets the images with the most of its label, some of them under
several classes: an approximation, and the output says so. Our own LRS and ARS (`distill evaluate
--metrics`) do not need it.

.pt files are pickles. DD-Ranking's scripts read nothing else; these hold plain tensors, which
`torch.load(..., weights_only=True)` reads without running code. distill itself never reads one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_core.artefact.distilled import Distilled
from distill_core.artefact.soundness import check_gathered
from distill_core.system.files import write_atomically, write_tensors
from registry import InputError

POSTER_TENSORS, GEOMETRY = "poster.safetensors", "geometry.json"
PLAIN = ("pixels", "images", "labels", "canvas", "rows", "cols", "class_grid")
SMALLEST = 1e-8  # added to labels before the logarithm


def export_dd_ranking(distilled: Distilled, out: Path, tensors: Mapping[str, Tensor]) -> list[str]:
    """Write DD-Ranking's input, and poster, labels and geometry beside it.

    Args:
        distilled: the result.
        out: a folder.
        tensors: of the result, as `load_whole` returns them.

    Raises:
        InputError: the labels are not distributions, so they have no logarithms, or an artefact
            of few images has so many classes that they would fill the memory.
    """
    logits = logits_of(distilled.labels)
    chosen = top_ipc(distilled.labels)
    num_classes = len(distilled.class_names)
    ipc = len(chosen) // num_classes
    check_gathered(distilled.path, len(chosen) * distilled.images[0].nbytes)
    _save(out / "images.pt", distilled.images[chosen])
    _save(out / "labels.pt", logits[chosen])
    _save(out / "lr.pt", torch.tensor(distilled.recipe.lr))
    plain = {name: tensors[name] for name in PLAIN if name in tensors}
    write_tensors(out / POSTER_TENSORS, plain, {"class_names": list(distilled.class_names)})
    exact = is_exact(chosen, distilled.labels)
    body = {"ipc": ipc, "chosen": chosen.tolist(), "approximate": not exact}
    body |= geometry(distilled, tensors)
    write_atomically(out / GEOMETRY, json.dumps(body, indent=1).encode())
    return [
        f"images.pt, labels.pt: {num_classes} classes of {ipc}; lr.pt: {distilled.recipe.lr:g}",
        "Exact: every image once, under its class."
        if exact
        else f"Approximate: DD-Ranking takes {ipc} images for each class, so every class has the "
        f"images with the most of its label; {len(set(chosen.tolist()))} of "
        f"{len(distilled.labels)} are used, some under several classes. {POSTER_TENSORS} and "
        f"{GEOMETRY} hold the true set; `distill evaluate --metrics lrs,ars` judges that.",
        "labels.pt holds log(label + 1e-8), since DD-Ranking applies a softmax (temperature 1).",
        f"Images are whitened ({distilled.transform.whitening.kind}); the real images that "
        "DD-Ranking tests on must be, too.",
        ".pt files are pickles, because DD-Ranking reads no other; read them with "
        "torch.load(file, weights_only=True).",
    ]


def logits_of(labels: Tensor) -> Tensor:
    """Return log(labels + 1e-8); a softmax gives the labels back.

    Raises:
        InputError: rows of `labels` (n, K) are not distributions.
    """
    if bool((labels < 0).any()) or not torch.allclose(labels.sum(1), torch.ones(()), atol=1e-3):
        raise InputError(
            "the soft labels are not probabilities, so DD-Ranking cannot take them.",
            expected="rows that are >= 0 and sum to 1.",
            next="use --format tensors, or distill again with fixed labels, as --labeler onehot.",
        )
    return (labels + SMALLEST).log()


def top_ipc(labels: Tensor) -> Tensor:
    """Choose ceil(n / K) images for each class, those with the most of its label, class by class.

    Args:
        labels: (n, K) soft labels.

    Returns:
        (K ipc,) numbers of images, the earlier one first where labels are equal.

    >>> top_ipc(torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])).tolist()
    [1, 2, 0, 2]
    """
    n, num_classes = labels.shape
    ipc = -(-n // num_classes)
    # An image is not taken twice for one class while there are others: ipc <= n.
    order = labels.argsort(dim=0, descending=True, stable=True)
    return order[:ipc].T.reshape(-1)


def is_exact(chosen: Tensor, labels: Tensor) -> bool:
    """Return whether every image was chosen once, under the class of its largest label."""
    ipc = len(chosen) // labels.shape[1]
    classes = torch.arange(labels.shape[1]).repeat_interleave(ipc)
    everyone = torch.equal(chosen.sort().values, torch.arange(len(labels)))
    return everyone and torch.equal(labels[chosen].argmax(1), classes)


def geometry(distilled: Distilled, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return where training images lie on the canvases, in pixels, as plain values."""
    metadata = distilled.metadata
    found: dict[str, Any] = {
        "class_names": list(distilled.class_names),
        "image_shape": list(distilled.transform.image_shape),
        "canvases": tensors["pixels"].shape[0],
        "canvas_hw": metadata["canvas_hw"],
        "wraps": metadata["wraps"],
        "class_grid": tensors["class_grid"].tolist(),
        "budget": distilled.budget.as_dict(),
        "storage": distilled.storage.as_dict(),
    }
    if "rows" in tensors:
        corners = (tensors[name].long() for name in ("canvas", "rows", "cols"))
        canvas, rows, cols = corners
        found["items"] = [
            {"canvas": c, "top": top, "left": left}
            for c, top, left in zip(
                canvas.tolist(), rows[:, 0].tolist(), cols[:, 0].tolist(), strict=True
            )
        ]
    return found


def _save(path: Path, tensor: Tensor) -> None:
    torch.save(tensor.contiguous().clone(), path)

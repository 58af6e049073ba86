"""Format `tensors`: images and labels as one safetensors file, and the whitening."""

from __future__ import annotations

from pathlib import Path

from distill_core.artefact.distilled import Distilled
from distill_core.system.files import write_tensors

TENSORS = "tensors.safetensors"
HOW_TO_LOAD = (
    f"from safetensors.torch import load_file; d = load_file('{TENSORS}'); "
    "images, labels = d['images'], d['labels']"
)


def export_tensors(distilled: Distilled, out: Path) -> list[str]:
    """Write `images` (n, C, h, w), whitened, and `labels` (n, K).

    The file's header has class names, recipe and how to load it, as JSON.
    """
    header = {
        "how_to_load": HOW_TO_LOAD,
        "class_names": list(distilled.class_names),
        "whitening": distilled.transform.whitening.kind,
        "recipe": distilled.recipe.model_dump(mode="json"),
    }
    tensors = {"images": distilled.images, "labels": distilled.labels}
    write_tensors(out / TENSORS, tensors, header)
    return [
        f"{TENSORS}: images {tuple(distilled.images.shape)}, labels "
        f"{tuple(distilled.labels.shape)}",
        "safetensors, not torch.save: a .pt file is a pickle, which can run code when it is "
        "loaded. safetensors.torch.load_file reads this one.",
    ]

"""A result for other tools: pictures in ImageFolder layout, or plain tensors. No pickle.

images   0_zero/0003.png ...  a folder for each class, in label order; un-whitened bytes
         labels.json          all soft labels by picture; a picture lies in the folder of its
                              largest label
tensors  tensors.safetensors  `images` (n, C, h, w) whitened, `labels` (n, K)
         whitening.safetensors, info.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from distill_core.artefact import WHITENING, load
from distill_core.distilled import Distilled
from distill_core.files import read_tensors, write_atomically, write_tensors
from distill_core.fitting import MODES
from distill_core.pictures import Picture, to_image, to_png
from registry import InputError, UnknownNameError

LABELS, TENSORS, INFO = "labels.json", "tensors.safetensors", "info.json"


def export(run_dir: Path, out: Path, form: str) -> list[str]:
    """Write a result into a new folder.

    Args:
        run_dir: a run directory or a distilled.safetensors.
        out: a folder that does not exist or is empty.
        form: "images" or "tensors".

    Returns:
        Lines for people: what was written, and what it is not good for.

    Raises:
        InputError: `out` is in use, or the artefact cannot be read.
        UnknownNameError: there is no such format.
        EnvironmentFault: a file cannot be written.
    """
    writers: dict[str, Callable[[Distilled, Path], list[str]]] = {
        "images": export_images,
        "tensors": export_tensors,
    }
    if form not in writers:
        raise UnknownNameError("format", form, known=writers, next="correct --format.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} exists already and is not an empty folder.",
            expected="a free name, so that nothing is mixed up or lost.",
            next="pass --out DIR, or remove it.",
        )
    return writers[form](load(run_dir), out)


def export_images(distilled: Distilled, out: Path) -> list[str]:
    """Write a PNG for every image, un-whitened, and labels.json.

    Every class has its folder, also one that no picture lies in, so that folders in sorted order
    are the labels.
    """
    channels = distilled.transform.image_shape[0]
    if channels not in MODES:
        raise InputError(
            f"images of {channels} channels cannot be written as PNG.",
            expected="1 or 3 channels.",
            next="use --format tensors.",
        )
    pictures = _to_bytes(distilled.transform.whitening.invert(distilled.images))
    main = distilled.labels.argmax(1).tolist()
    folders = class_folders(distilled.class_names)
    digits = len(str(len(main) - 1))
    soft = {}
    for k, (picture, label) in enumerate(zip(pictures, main, strict=True)):
        name = f"{folders[label]}/{k:0{digits}}.png"
        write_atomically(out / name, to_png(to_image(picture)))
        soft[name] = distilled.labels[k].tolist()
    empty = [folder for label, folder in enumerate(folders) if label not in main]
    for folder in empty:
        (out / folder).mkdir(parents=True)
    kind = distilled.transform.whitening.kind
    body = {
        "class_names": list(distilled.class_names),
        "folders": folders,
        "labels": soft,
        "note": _note(kind),
    }
    write_atomically(out / LABELS, json.dumps(body, indent=1).encode())
    lines = [f"{len(main)} pictures in {len(folders)} folders, and {LABELS}: {out}", _note(kind)]
    if empty:
        lines.append(
            f"{len(empty)} classes are no picture's largest label, their folders are empty: "
            "torchvision's ImageFolder needs allow_empty=True."
        )
    return lines


def export_tensors(distilled: Distilled, out: Path) -> list[str]:
    """Write images and labels as one safetensors file, with whitening and facts beside it."""
    tensors = {"images": distilled.images, "labels": distilled.labels}
    write_tensors(out / TENSORS, tensors, {"made_from": str(distilled.path)})
    whitening, header = read_tensors(distilled.path.with_name(WHITENING))
    write_tensors(out / WHITENING, whitening, header)
    info = {
        "how_to_load": f"from safetensors.torch import load_file; d = load_file('{TENSORS}'); "
        "images, labels = d['images'], d['labels']",
        "note": "Images are whitened; test images must be, too, with whitening.safetensors. "
        "Labels are probabilities: for tools that apply a softmax to them (DD-Ranking), "
        "pass log(labels + 1e-8).",
        "class_names": list(distilled.class_names),
        "image_shape": list(distilled.transform.image_shape),
        "whitening": distilled.transform.whitening.kind,
        "budget": distilled.budget.as_dict(),
        "recipe": distilled.recipe.model_dump(mode="json"),
    }
    write_atomically(out / INFO, json.dumps(info, indent=1).encode())
    return [
        f"images {tuple(distilled.images.shape)} and labels {tuple(distilled.labels.shape)}: "
        f"{out / TENSORS}",
        "safetensors, not torch.save: a .pt file is a pickle, which can run code when it is "
        "loaded. safetensors.torch.load_file reads this one.",
    ]


def class_folders(class_names: tuple[str, ...]) -> list[str]:
    """Return folder names that sort in label order and are valid on every system.

    >>> class_folders(("T-shirt/top", "boot"))
    ['0_T-shirt_top', '1_boot']
    """
    digits = len(str(len(class_names) - 1))
    return [
        f"{label:0{digits}}_{re.sub(r'[^A-Za-z0-9._-]+', '_', name).strip('._')}"
        for label, name in enumerate(class_names)
    ]


def _note(kind: str) -> str:
    return {
        "none": "Pixels are rounded to bytes.",
        "standardise": "Values outside the range of real pixels are cut off; for exact values use "
        "--format tensors.",
    }.get(
        kind,
        f"Whitening '{kind}' can be undone only in part; train on --format tensors instead.",
    )


def _to_bytes(pictures: Tensor) -> list[Picture]:
    """Turn (n, C, h, w) from 0 to 1 into what PIL takes: (h, w, 3), or (h, w) for one channel."""
    values: Picture = np.rint(255 * pictures.permute(0, 2, 3, 1).numpy()).astype(np.uint8)
    return list(values[..., 0] if values.shape[-1] == 1 else values)

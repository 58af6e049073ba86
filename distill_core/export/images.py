"""Format `images`: PNG in ImageFolder layout, and all soft labels.

0_zero/0003.png ...  a folder for each class, in label order; un-whitened bytes
labels.json          all soft labels by picture; a picture lies in the folder of its largest label
"""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
from torch import Tensor

from distill_core.artefact.distilled import Distilled
from distill_core.artefact.pictures import Picture, to_image, to_png
from distill_core.data.resize import MODES
from distill_core.system.files import write_atomically
from registry import InputError

LABELS = "labels.json"
LONGEST = 60  # characters of a class name in a folder's name; file systems allow 255 bytes


def export_images(distilled: Distilled, out: Path) -> list[str]:
    """Write a PNG for every image, un-whitened, and labels.json.

    Every class has its folder, even without pictures, so that sorted folders are the labels.
    """
    pngs = pngs_of(distilled)
    main = distilled.labels.argmax(1).tolist()
    folders = class_folders(distilled.class_names)
    digits = len(str(len(main) - 1))
    soft = {}
    for k, (png, label) in enumerate(zip(pngs, main, strict=True)):
        name = f"{folders[label]}/{k:0{digits}}.png"
        write_atomically(out / name, png)
        soft[name] = distilled.labels[k].tolist()
    empty = [folder for label, folder in enumerate(folders) if label not in main]
    for folder in empty:
        (out / folder).mkdir(parents=True)
    body = {
        "class_names": list(distilled.class_names),
        "folders": folders,
        "labels": soft,
        "note": rounding_note(distilled),
    }
    write_atomically(out / LABELS, json.dumps(body, indent=1).encode())
    lines = [
        f"{len(main)} pictures in {len(folders)} folders, and {LABELS}",
        rounding_note(distilled),
    ]
    if empty:
        lines.append(
            f"{len(empty)} classes are the largest label of no picture, their folders are empty: "
            "torchvision's ImageFolder needs allow_empty=True."
        )
    return lines


def pngs_of(distilled: Distilled) -> list[bytes]:
    """Return every image as the bytes of a PNG file, un-whitened.

    Raises:
        InputError: PNG cannot hold its channels.
    """
    channels = distilled.transform.image_shape[0]
    if channels not in MODES:
        raise InputError(
            f"images of {channels} channels cannot be written as PNG.",
            expected="1 or 3 channels.",
            next="use --format tensors.",
        )
    pictures = _to_bytes(distilled.transform.whitening.invert(distilled.images))
    return [to_png(to_image(picture)) for picture in pictures]


def class_folders(class_names: tuple[str, ...]) -> list[str]:
    """Return folder names that sort in label order and are valid on every system.

    >>> class_folders(("T-shirt/top", "boot"))
    ['0_T-shirt_top', '1_boot']
    >>> class_folders(("дуб", "猫"))
    ['0_дуб', '1_猫']
    """
    digits = len(str(len(class_names) - 1))
    return [
        f"{label:0{digits}}_{_plain(name)[:LONGEST].strip('._')}"
        for label, name in enumerate(class_names)
    ]


def _plain(name: str) -> str:
    """Keep letters and digits of any script, their marks, dots and hyphens; `_` for the rest."""
    kept = (
        sign if sign.isalnum() or sign in "._-" or unicodedata.category(sign)[0] == "M" else "/"
        for sign in unicodedata.normalize("NFC", name)
    )
    return re.sub("/+", "_", "".join(kept))


def rounding_note(distilled: Distilled) -> str:
    """Return a sentence about what is lost in the pictures."""
    kind = distilled.transform.whitening.kind
    if kind == "none":
        return "Pixels are rounded to bytes."
    if kind == "zca":  # the mean and norm of each image are lost
        return "Whitening 'zca' can be undone only in part; train on --format tensors instead."
    return (
        "Values outside the range of real pixels are cut off; for exact values use "
        "--format tensors."
    )


def _to_bytes(pictures: Tensor) -> list[Picture]:
    """Turn (n, C, h, w) from 0 to 1 into arrays for PIL: (h, w, 3), or (h, w) for one channel."""
    values: Picture = np.rint(255 * pictures.permute(0, 2, 3, 1).numpy()).astype(np.uint8)
    return list(values[..., 0] if values.shape[-1] == 1 else values)

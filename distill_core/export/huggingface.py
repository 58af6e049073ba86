"""Format `huggingface`: a folder that `datasets.load_dataset` reads, ready for the Hub.

README.md                the dataset card (`card.py`)
train/0003.png ...       every image, un-whitened bytes
train/metadata.jsonl     a line for each: file_name, label, class_name, soft_label (K numbers)
tensors.safetensors      the exact values, whitened
whitening.safetensors    compact, unless it is asked for as it is
distilled.safetensors    or stored.safetensors, the file of the result for `distill_core.load`, with
                         manifest.json: accuracies, later ones too
run.toml                 the configuration, if there is one: `distill run --config` repeats it

No file names a folder of this machine: the last part of a path stands for it.

The layout is that of the `datasets` documentation, "imagefolder" with metadata.jsonl.
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import tomli_w

from distill_core.artefact.contents import CONFIG
from distill_core.artefact.distilled import Distilled
from distill_core.export.card import dataset_card
from distill_core.export.images import pngs_of, rounding_note
from distill_core.export.published import without_places, write_published
from distill_core.export.tensors import export_tensors
from distill_core.system.files import parse_toml, write_atomically
from distill_core.system.plain_files import read_plain
from registry import OptionError

LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def export_huggingface(distilled: Distilled, out: Path, licence: str, title: str = "") -> list[str]:
    """Write pictures, metadata.jsonl, exact tensors and the dataset card.

    Raises:
        OptionError: `licence` is not an identifier of the Hub.
        InputError: PNG cannot hold the channels.
    """
    if not LICENCE.fullmatch(licence):
        raise OptionError(
            f"licence '{licence}' is not an identifier.",
            expected="one of the Hub's, in lower case, as mit, cc-by-4.0 or unknown.",
            next="correct --license.",
        )
    pngs = pngs_of(distilled)
    digits = len(str(len(pngs) - 1))
    main = distilled.labels.argmax(1).tolist()
    lines = []
    for k, (png, label) in enumerate(zip(pngs, main, strict=True)):
        name = f"{k:0{digits}}.png"
        write_atomically(out / "train" / name, png)
        line = {
            "file_name": name,
            "label": label,
            "class_name": distilled.class_names[label],
            "soft_label": distilled.labels[k].tolist(),
        }
        lines.append(json.dumps(line) + "\n")
    write_atomically(out / "train" / "metadata.jsonl", "".join(lines).encode())
    export_tensors(distilled, out)
    manifest = write_published(distilled, out)
    with contextlib.suppress(FileNotFoundError):
        settings = parse_toml(read_plain(distilled.path.with_name(CONFIG)).decode())
        write_atomically(out / CONFIG, tomli_w.dumps(without_places(settings)).encode())
    card = dataset_card(distilled, manifest, licence, title)
    write_atomically(out / "README.md", card.encode())
    open_question = (
        ", and say the licence of the source data with --license" if licence == "unknown" else ""
    )
    return [
        f"{len(pngs)} pictures in train, metadata.jsonl with soft labels, README.md",
        rounding_note(distilled).replace("--format tensors", "tensors.safetensors"),
        f"Before you publish it: read README.md{open_question}.",
    ]

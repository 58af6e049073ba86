"""The dataset card of a result: YAML for the Hub, then the facts for readers.

Class names come from users, so they are always quoted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from distill_core import __version__
from distill_core.artefact.compact_whitening import how_to_load
from distill_core.artefact.contents import CONFIG
from distill_core.artefact.distilled import Distilled
from distill_core.config.data_name import data_name
from distill_core.config.discovery import discover
from distill_core.config.sources import bibtex, sources_of
from distill_core.export.shared_whitening import whitening_text
from distill_core.export.tensors import TENSORS

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
NAMES = {
    "distilled": "this dataset",
    "random": "random real images of the same pixel budget",
    "random_bytes": "random real images of as many bytes, 8 bits a number",
    "full": "the full training set",
}
PARTS = ("repr", "labeler", "orderer", "algo")
CARD = """\
---
license: {licence}
pretty_name: {pretty}
task_categories:
- image-classification
tags:
- dataset-distillation
- synthetic
size_categories:
- {size}
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
{labels}
  - name: class_name
    dtype: string
  - name: soft_label
    sequence: float64
configs:
- config_name: default
  data_files:
  - split: train
    path: train/**
---

# {title}

{count} synthetic training images of {channels}x{h}x{w} pixels with soft labels of {classes}
classes, made from {source} by dataset distillation: networks trained on them from scratch are
meant to classify real images.

## Load

```python
from datasets import load_dataset

train = load_dataset("PATH_OF_THIS_FOLDER", split="train")  # or its name on the Hub
train[0]["image"], train[0]["label"], train[0]["soft_label"]
```

**The pictures are un-whitened and rounded to bytes, for looking.** Distillation works on whitened
images (here: `{whitening}`). Train on the exact tensors, and whiten test images in the same way
with `whitening.safetensors`; a network that is tested on images as they come answers at random.

```python
from safetensors.torch import load_file

d = load_file("{tensors}")
images, labels = d["images"], d["labels"]  # whitened (n, C, h, w); probabilities (n, K)
```
{matrix}
With distill it is one line, here and from the Hub, and test images get their whitening:

```python
import distill_core

distilled = distill_core.load("PATH_OF_THIS_FOLDER")  # or "hf://user/name"
network = distilled.train(network)
```

`label` is the largest entry of `soft_label`. Classes, in label order:

```json
{names}
```

## How it was made

| | |
|---|---|
{made}

{command}

## How good it is

{accuracy}

Networks are meant to be trained so: {recipe}.

## Cite

```bibtex
{cite}
```

## Licence

The source data's: `{licence}`.{unknown}
"""


def dataset_card(
    distilled: Distilled, manifest: Mapping[str, Any], licence: str, title: str = ""
) -> str:
    """Return README.md for a result.

    Args:
        distilled: the result.
        manifest: as `write_published` returned it.
        licence: identifier of the licence of the source data.
        title: empty: the dataset, the parts and the budget.
    """
    channels, h, w = distilled.transform.image_shape
    named = {"name": distilled.metadata.get("dataset", "unknown")}
    source = data_name(distilled.metadata.get("components", {}).get("dataset", named))
    count = len(distilled.dataset)
    has_config = distilled.path.with_name(CONFIG).exists()
    return CARD.format(
        licence=licence,
        pretty=_quoted(title or _title(distilled, source)),
        labels="\n".join(
            f"          '{k}': {_quoted(name)}" for k, name in enumerate(distilled.class_names)
        ),
        cite=bibtex(sources_of(distilled.metadata.get("components", {}), discover()))
        .replace("`", "'")
        .rstrip(),
        size=next((name for limit, name in SIZES if count < limit), "100K<n<1M"),
        title=_cell(title or _title(distilled, source)),
        source=_cell(source),
        count=count,
        channels=channels,
        h=h,
        w=w,
        classes=len(distilled.class_names),
        whitening=distilled.transform.whitening.kind,
        tensors=TENSORS,
        matrix=_matrix(distilled),
        names=_quoted(list(distilled.class_names)),
        made="\n".join(f"| {_cell(a)} | {_cell(b)} |" for a, b in _made(distilled, manifest)),
        command=f"The same again: `distill run --config {CONFIG} --out NEW_FOLDER`."
        if has_config
        else "The configuration was not kept with the result.",
        accuracy=_accuracy(manifest.get("results") or {}, manifest.get("evaluations") or {}),
        recipe=distilled.recipe.described(count),
        unknown=" Nobody has said what it is; find out before you publish this."
        if licence == "unknown"
        else "",
    )


def _matrix(distilled: Distilled) -> str:
    """Return plain code that makes the matrix of a compact whitening; empty if it is there."""
    if "rms_error" not in distilled.metadata["whitening"]:
        return ""
    code = how_to_load(distilled.transform.image_shape)
    return f"\nThe matrix of the whitening is made so:\n\n```python\n{code}```\n"


def _title(distilled: Distilled, source: str) -> str:
    parts = distilled.metadata.get("components", {})
    names = " x ".join(str(parts[kind]["name"]) for kind in PARTS if kind in parts)
    return f"{source}, distilled to {distilled.budget.ipc:.3g} images per class ({names})"


def _made(distilled: Distilled, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    chosen = distilled.metadata.get("components", {})
    rows = [
        (kind, f"{c['name']} ({c['distribution']} {c['version']})") for kind, c in chosen.items()
    ]
    rows += [
        ("budget", str(distilled.budget)),
        ("storage", str(distilled.storage)),
        ("whitening", whitening_text(distilled)),
    ]
    for name, key in (("outer steps", "outer_steps"), ("seed", "seed"), ("written", "written")):
        if key in manifest:
            rows.append((name, str(manifest[key])))
    versions = manifest.get("versions", {"distill": __version__})
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return rows


def _accuracy(results: dict[str, Any], evaluations: dict[str, Any]) -> str:
    """Return a table of accuracies with their spread, or a sentence if there are none."""
    if not results and not evaluations:
        return "It has not been judged yet: `distill evaluate RUN` does that."
    lines = [
        "| network | trained on | accuracy on real test images | networks |",
        "|---|---|---|---|",
    ]
    for network, group in {"the run's own": results, **evaluations}.items():
        lines += [_row(network, name, found) for name, found in group.items()]
    return "\n".join([*lines, "", "Mean and sample standard deviation (ddof = 1) over networks."])


def _row(network: str, name: str, found: dict[str, Any]) -> str:
    spread = f" ± {100 * found['std']:.2f}" if found["std"] is not None else ""
    accuracy = f"{100 * found['mean']:.2f}{spread} %"
    cells = (_cell(network), NAMES.get(name, _cell(name)), accuracy, str(len(found["accuracies"])))
    return f"| {' | '.join(cells)} |"


def _quoted(value: Any) -> str:
    """Return JSON, which is also YAML; nothing in it ends a block of Markdown or YAML."""
    return json.dumps(value).replace("`", "\\u0060")


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    for mark in "\\`|<>[]*_":
        plain = plain.replace(mark, f"\\{mark}")
    return plain

"""Whether the parameters of an artefact decode to its images, which runs code of its components.

distilled.safetensors has the images beside the parameters, so that a reader needs no plugin.
Whoever has the plugin can check one against the other. stored.safetensors has the numbers alone,
which must decode to images and labels that can be trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_core.artefact.artefact import load, read_whitening
from distill_core.artefact.contents import STORED
from distill_core.artefact.decoding import spec_of
from distill_core.artefact.packing import items, state_of
from distill_core.artefact.result_file import result_file
from distill_core.commands.verify import Check, labels_hold
from distill_core.config.run_config import resolve
from distill_core.contracts.whitening import Whitening
from distill_core.run.plan import Plan
from distill_core.run.sizing import sized
from distill_core.system.files import read_tensors
from registry import ExplainedError, OptionError, Plugins, UnknownNameError, first_line

NAME = "decoding"
ROUNDING = 1e-4  # of an image, between machines


def check_decoded(run_dir: Path, settings: Mapping[str, Any], plugins: Plugins) -> Check:
    """Decode the parameters of an artefact by the run's representation.

    The images beside them are compared with what comes of it, where there are any.

    Args:
        run_dir: its files are as the manifest says.
        settings: of its run.toml.
        plugins: what is installed; without the run's components, or with a version of them that
            has other options, nothing is compared, which the check says, and numbers alone are not
            decoded.
    """
    if (file := result_file(run_dir)).name == STORED:
        return _decodes(run_dir)
    tensors, metadata = read_tensors(file)
    try:
        config = resolve(settings, plugins).model_copy(update={"device": "cpu"})  # as `load`
        plan = Plan.of(config, plugins)
    except UnknownNameError as missing:
        return Check(NAME, True, f"not compared, since {missing.what.rstrip('.')} is installed")
    except OptionError as other:  # of another version: the images need none
        return Check(NAME, True, f"not compared, since here {other.what}")
    try:
        whitening = read_whitening(file, metadata)
        decoded = _decoded(plan, tensors, metadata, whitening)
    except (ExplainedError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = error.what if isinstance(error, ExplainedError) else first_line(error)
        return Check(NAME, False, f"{plan.name('representation')} does not decode it: {reason}")
    stored = items(tensors)
    same = decoded.shape == stored.shape
    apart = float((decoded - stored).abs().max()) if same else torch.inf
    text = f"its parameters decode to its {len(stored)} images, within {apart:.1e}"
    wrong = f"its parameters decode to other images; they differ by up to {apart:.1e}"
    close = apart <= ROUNDING * max(1.0, float(stored.abs().max()))
    return Check(NAME, close, text if close else wrong)


def _decodes(run_dir: Path) -> Check:
    try:
        distilled = load(run_dir)
    except ExplainedError as error:
        return Check(NAME, False, " ".join(str(error).splitlines()))
    simplex = distilled.metadata.get("simplex", True)
    held, labels = labels_hold(distilled.labels, simplex=simplex)
    text = f"its numbers decode to {len(distilled.images)} images and labels to train on"
    return Check(NAME, held, f"{text}; labels: {labels}")


@torch.no_grad()
def _decoded(
    plan: Plan, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], whitening: Whitening
) -> Tensor:
    """Return all images (n, C, h, w) of the parameters, by code of the representation."""
    representation = sized(plan, spec_of(metadata))
    representation.use_whitening(whitening)
    prefix = "representation."
    state = state_of(tensors, metadata["same"])
    own = {n.removeprefix(prefix): each for n, each in state.items() if n.startswith(prefix)}
    representation.load_state_dict(own)
    return representation.expand(representation.layout.items).float()

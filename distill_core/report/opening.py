"""What a page about a run opens with: its picture, its accuracies and controls, its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from distill_core.artefact.storage import Storage
from distill_core.report.record import RecordedAccuracy, RunRecord

# By the keys of `record.WHAT`: what the networks were trained on.
TRAINED_ON = {
    "distilled": "the distilled set",
    "random": "real images of as many pixels, drawn at random",
    "random_bytes": "real images of as many bytes, drawn at random",
    "full": "the full training set",
}


def opening(record: RunRecord, picture: str) -> str:
    """Return the picture with the figures beside it, or below it on a narrow page.

    Args:
        record: the run.
        picture: HTML of the distilled images.
    """
    return f'<div class="opening">{picture}{_figures(record)}</div>'


def _figures(record: RunRecord) -> str:
    judged = record.verdict
    rows = "".join(
        _figure(TRAINED_ON[what], found, first=what == "distilled")
        for what, found in judged.results.items()
    )
    return (
        '<section id="figures"><h2>Accuracy on the test set</h2>'
        f"<p>Networks trained on:</p>{rows}"
        f'<p class="note">Judged by {escape(judged.backbone)}.</p>'
        f"<h2>Size</h2>{_size(record.manifest)}</section>"
    )


def _figure(name: str, found: RecordedAccuracy, *, first: bool) -> str:
    spread = "" if found.std is None else f" <small>+- {100 * found.std:.1f}</small>"
    return (
        f'<div class="figure{" first" if first else ""}"><strong>{100 * found.mean:.1f} %{spread}'
        f"</strong><span>{escape(name)}</span>"
        f'<i style="width:{100 * min(max(found.mean, 0), 1):.1f}%"></i></div>'
    )


def _size(manifest: Mapping[str, Any]) -> str:
    """Say what is stored; earlier versions counted no bytes."""
    ipc = manifest["budget"]["ipc"]
    pixels = f"the pixels of {ipc:.3g} real images per class"
    storage = Storage.read(manifest.get("storage"))
    if storage is None:
        return f"<p>{pixels}</p>"
    return (
        f'<div class="figure"><strong>{storage.bytes:,} bytes</strong>'
        f"<span>{storage.label_bytes:,} of them labels; {pixels}</span></div>"
    )

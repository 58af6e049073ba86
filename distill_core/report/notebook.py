"""A result as HTML for notebooks: its picture, the accuracies, and what is odd about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from distill_core.artefact.distilled import Distilled
from distill_core.config.run_config import RunConfig
from distill_core.evaluation.evaluate import Result
from distill_core.evaluation.judge import NAMES
from distill_core.report.poster import data_uri
from distill_core.run.notices import Notice


def notebook_html(
    config: RunConfig,
    distilled: Distilled,
    poster: Path,
    results: Mapping[str, Result],
    notices: Iterable[Notice],
) -> str:
    """Return the HTML of a result; all text is escaped.

    Args:
        config: of the run.
        distilled: what it gave.
        poster: file of its picture.
        results: accuracies on the test set, by what networks were trained on.
        notices: what is odd.
    """
    title = " x ".join((config.repr, config.labeler, config.orderer, config.algo))
    about = f"on {config.data_name}: {distilled.budget}; {distilled.storage}"
    rows = "".join(
        f"<tr><td>{escape(NAMES[name])}</td><td>{escape(str(result))}</td>"
        f"<td>{len(result.accuracies)}</td></tr>"
        for name, result in results.items()
    )
    return (
        f"<div><p><b>{escape(title)}</b> {escape(about)}</p>"
        f'<img alt="the distilled images" style="max-width: 100%" src="{data_uri(poster)}">'
        f"<table><tr><th>trained on</th><th>test accuracy</th><th>networks</th></tr>{rows}</table>"
        f"{''.join(f'<p>{escape(str(notice))}</p>' for notice in notices)}"
        f"<p>classes: {escape(', '.join(distilled.class_names))}</p></div>"
    )

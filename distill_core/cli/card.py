"""What `export` and `push` are told for the dataset card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def with_card(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options `--license` and `--title`."""
    licence = click.option(
        "--license",
        "licence",
        default="unknown",
        show_default=True,
        help="Of the source data, for the dataset card, as the Hub calls it.",
    )
    title = click.option(
        "--title", default="", help="Of the dataset card [default: made of the parts]."
    )
    return licence(title(command))

"""What `export` and `push` are told for a dataset of the Hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def with_card(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options `--license`, `--title` and `--exact-whitening`."""
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
    exact = click.option(
        "--exact-whitening",
        is_flag=True,
        help="For the Hub: the whole matrix of a ZCA (37.7 MB for 32x32 pixels), not a compact "
        "one.",
    )
    return licence(title(exact(command)))

"""Settings of the orderers, apart from them so that checking them imports no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from distill_core.plugin import Options, about


class GivenOptions(Options):
    """Settings of `given`."""

    file: Path = Field(
        description="the grid, row by row: text with a row per line, names or numbers between "
        "commas; .json, a list of rows; .toml, with grid = [[...], ...]"
    )


class PhotometricOptions(Options):
    """Settings of `photometric`."""

    restarts: int = Field(10, ge=0, description="random starts of the search", **about("starts"))

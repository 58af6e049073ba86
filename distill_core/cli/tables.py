"""Tables: drawn on a terminal, plain lines with tabs elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from distill_core.system.screen import plain_console, results


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print rows under their headers.

    On a terminal the table is drawn and wrapped to its width, with the title above. Elsewhere
    there is one line for each row, columns padded and separated by tabs, and no title.
    """
    if sys.stdout.isatty():
        _draw(headers, rows, title)
    else:
        for line in plain_lines([headers, *rows]):
            click.echo(line)


def print_json(record: object, default: Callable[[Any], object] | None = None) -> None:
    """Print a record for other programs, on a standard output that has nothing else.

    Args:
        record: plain values.
        default: makes a plain value of any other; None: there are no others.
    """
    click.echo(json.dumps(record, indent=1, default=default), file=results())


def print_listing(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str, as_json: bool
) -> None:
    """Print rows as a table, or as a JSON list with one record for each, by its headers."""
    if as_json:
        print_json([dict(zip(headers, row, strict=True)) for row in rows])
    else:
        print_table(headers, rows, title=title)


def plain_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    r"""Pad the columns and join them with tabs.

    >>> plain_lines([("name", "is"), ("a", "b")])
    ['name\tis', 'a   \tb']
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "\t".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _draw(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Rows of several lines each are set apart.
    leading = int(any("\n" in cell for row in rows for cell in row))
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, leading=leading)
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        # Text, not str: square brackets in a summary are not markup.
        table.add_row(*(Text(cell) for cell in row))
    plain_console(soft_wrap=False).print(table)

"""What `distill order` is asked for, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_core.config.data_name import name_in_files
from distill_core.config.effects import check_effect, check_effects
from distill_core.config.grid_shape import parse_grid
from distill_core.config.run_config import RunConfig, resolve
from distill_core.config.settings import merge, parse_overrides
from distill_core.system.plain_files import check_plain
from registry import InputError, OptionError, Options, Plugins

HEEDED = ("orderer", "dataset", "data")


@dataclass(frozen=True)
class Request:
    """The request, checked as far as possible without loading data.

    Attributes:
        config: of the dataset and the first orderer.
        plugins: what is installed.
        rivals: text as typed, name and options of every orderer to compare with.
        grid_shape: rows and columns; None: as square as possible, like a poster's.
        out: the picture.
    """

    config: RunConfig
    plugins: Plugins
    rivals: list[tuple[str, str, Options]]
    grid_shape: tuple[int, int] | None
    out: Path

    @property
    def grid_file(self) -> Path:
        """The grid, beside the picture."""
        return self.out.with_suffix(".grid.json")


def read_request(
    given: Mapping[str, Any],
    plugins: Plugins,
    *,
    weaker: Mapping[str, Any],
    grid: str | None,
    rivals: Sequence[str],
    out: Path | None,
) -> Request:
    """Check the command line.

    Args:
        given: settings of the command line itself.
        plugins: what is installed.
        weaker: settings of a preset or a file; what does not matter to an order is ignored.
        grid: rows and columns as typed.
        rivals: orderers to compare with, as typed.
        out: the picture.

    Raises:
        UnknownNameError, OptionError: a name or an option is wrong.
        InputError: a file that is to be written cannot be.
    """
    sections = {"data", "engine", "evaluate"} & given.keys() | given.get("options", {}).keys()
    if unheeded := sorted(sections - set(HEEDED)):
        raise OptionError(
            f"-o {unheeded[0]}.* has no effect on a class order.",
            expected=f"options of: {', '.join(HEEDED)}, run.",
            next="leave it out; --grid sets the class grid.",
        )
    config = resolve(merge(weaker, given), plugins, needed=("orderer",))
    check_effects(config, given)
    try:
        shape = None if grid is None else parse_grid(grid)
    except ValueError as error:
        raise OptionError(
            f"--grid {grid} is not valid.", expected=f"{error}.", next="correct it."
        ) from None
    shared = given.get("options", {}).get("orderer", {})
    checked = [_rival(text, shared, plugins) for text in rivals]
    path = out or Path(f"order-{name_in_files(config.data_name)}-{config.orderer}.png")
    request = Request(config, plugins, checked, shape, path)
    _check_outputs(request)
    return request


def _check_outputs(request: Request) -> None:
    """Refuse names that stand for something else than a file."""
    for path in (request.out, request.grid_file):
        if path.is_dir():
            raise InputError(
                f"{path} is a folder.",
                expected="a name for a file.",
                next="pass another --out PICTURE.png; the grid is written beside it.",
            )
    check_plain(request.grid_file)  # which is read, lest an edited one is lost


def _rival(text: str, shared: Mapping[str, Any], plugins: Plugins) -> tuple[str, str, Options]:
    """Read NAME or NAME:FIELD=VALUE,...; shared options apply if the orderer has them."""
    name, _, tail = text.partition(":")
    catalogue = plugins["orderer"]
    known = catalogue[name].resolve_options().model_fields
    pairs = [f"orderer.{pair}" for pair in tail.split(",") if pair]
    own = parse_overrides(pairs).get("options", {}).get("orderer", {})
    options = {field: value for field, value in shared.items() if field in known} | own
    checked = catalogue.check(name, options)
    check_effect("orderer", checked, own)
    return text, name, checked

"""What is chosen by name and is not a component: presets and plugins, for `list` and `show`."""

from __future__ import annotations

from dataclasses import asdict

import click

from distill_core.cli.tables import print_json
from distill_core.config.discovery import collect_presets, discover
from distill_core.hookspecs import Preset
from registry import OptionError, UnknownNameError

PRESETS = ("preset", "presets")
OTHERS = (*PRESETS, "plugin", "plugins")


def show_other(word: str, name: str | None, *, as_json: bool) -> None:
    """Show a preset or a plugin.

    Args:
        word: one of `OTHERS`.
        name: the preset's or the plugin's.
        as_json: print a record.

    Raises:
        OptionError: there is no name.
        UnknownNameError: nothing has that name.
    """
    if name is None:
        kind = word.rstrip("s")
        raise OptionError(
            f"nothing says which {kind} to show.",
            expected=f"`distill show {kind} NAME`.",
            next=f"`distill list {kind}s` has the names.",
        )
    if word in PRESETS:
        show_preset(collect_presets(discover())[name], as_json=as_json)
    else:
        _show_plugin(name, as_json=as_json)


def show_preset(preset: Preset, *, as_json: bool) -> None:
    """Print a preset as a configuration file, or as a record."""
    if as_json:
        print_json(asdict(preset))
    else:
        click.echo(describe(preset), nl=False)


def describe(preset: Preset) -> str:
    """Return a preset as a configuration file, with what is known about it as comments."""
    import tomli_w

    remarks = [preset.summary, f"reported: {preset.reported}" if preset.reported else ""]
    comments = [f"# {line}" for remark in remarks for line in remark.splitlines()]
    return "\n".join([*comments, "", tomli_w.dumps(dict(preset.config))])


def _show_plugin(name: str, *, as_json: bool) -> None:
    from distill_core.cli.plugins import HEADERS, report, rows

    plugins = discover()
    presets = collect_presets(plugins)
    found = {row[0]: dict(zip(HEADERS, row, strict=True)) for row in rows(plugins, presets)}
    failed = {each.provider.entry_point: each for each in [*plugins.failures, *presets.failures]}
    if name not in found | failed:
        raise UnknownNameError(
            "plugin", name, known={*found, *failed}, next="`distill list plugins` has the names."
        )
    if as_json:
        print_json(found.get(name) or {"plugin": name, "broken": failed[name].reason})
        return
    for header, text in found.get(name, {}).items():
        click.echo(f"{header:<8} {text}")
    if name in failed:
        click.echo(report(failed[name], tracebacks=False).strip())

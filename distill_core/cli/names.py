"""Names as parameters of commands, with completion. Checked later, with suggestions."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from distill_core.hookspecs import BY_OPTION, KINDS
from registry import ExplainedError


class ComponentName(StringParamType):
    """The name of a component.

    Args:
        option: the kind's option prefix; None: the kind is the parameter `kind`.
    """

    def __init__(self, option: str | None = None) -> None:
        self.option = option

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the components whose names begin like this."""
        from distill_core.cli.kinds import find_kind
        from distill_core.config.discovery import discover

        try:
            catalogue = discover()[find_kind(self.option or ctx.params.get("kind") or "").name]
        except ExplainedError:
            return []
        name, colon, _ = incomplete.partition(":")
        if colon and name in catalogue:
            from distill_core.config.named_models import all_models

            whole = (f"{name}:{each}" for each in all_models(catalogue[name].resolve_options()))
            return [CompletionItem(each) for each in whole if each.startswith(incomplete)]
        return [
            CompletionItem(name, help=component.summary)
            for name, component in catalogue.items()
            if name.startswith(incomplete)
        ]


class KindName(StringParamType):
    """A kind of component, or settings of the core."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the kinds and settings that begin like this."""
        from distill_core.config.settings import settings_models

        names = [*(kind.name for kind in KINDS), *settings_models()]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class PresetName(StringParamType):
    """The name of a preset."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the presets whose names begin like this."""
        from distill_core.config.discovery import collect_presets, discover

        return [
            CompletionItem(name, help=preset.summary)
            for name, preset in collect_presets(discover()).items()
            if name.startswith(incomplete)
        ]


class OptionPair(StringParamType):
    """`kind.field=value`, completed up to the equals sign."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the options of the components that the command line has chosen so far."""
        from distill_core.config.discovery import discover
        from distill_core.config.run_config import default_choice
        from distill_core.config.settings import settings_models

        models = settings_models()
        near = [
            prefix
            for prefix in (*models, *BY_OPTION)
            if f"{prefix}.".startswith(incomplete) or incomplete.startswith(f"{prefix}.")
        ]
        if len(near) != 1:
            return [CompletionItem(f"{prefix}.") for prefix in near]
        (prefix,) = near
        if prefix in BY_OPTION:  # only now, since the options of some components come with torch
            chosen = ctx.params.get(prefix) or default_choice(prefix)
            catalogue = discover()[BY_OPTION[prefix].name]
            if chosen is None or chosen not in catalogue:
                return []
            models[prefix] = catalogue.options(chosen)
        names = [f"{prefix}.{name}=" for name in models[prefix].model_fields]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

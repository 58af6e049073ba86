"""Options that do nothing beside the value of another one: refused where the user gave them.

An options model says it with a mark of `about`: `needs="mode=learned"`, or with several values
`needs="canvas=bases|gaussians"`, or `needs="rho!=0"`. Such conditions may be joined by " or ", and
those by " and ". Values are written as users type them.

A preset may set such an option, and a run's own file has all of them: there it is no mistake.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from distill_core.config.describe import as_typed
from distill_core.config.run_config import RunConfig
from distill_core.config.sections import SECTIONS
from registry import OptionError
from registry.options import Options, marked


def given_by_user(
    weaker: Mapping[str, Any], stronger: Mapping[str, Any], *, preset: str | None
) -> list[Mapping[str, Any]]:
    """Return the settings that the user wrote: the command line's, and those of a file of theirs.

    Args:
        weaker: settings of a preset or a file.
        stronger: those of the command line.
        preset: its name, if it is one.
    """
    return [stronger] if preset or "format" in weaker else [weaker, stronger]


def check_effects(config: RunConfig, *given: Mapping[str, Any]) -> None:
    """Refuse options that the user gave and that have no effect beside the others.

    Args:
        config: the whole configuration.
        given: settings that the user wrote.

    Raises:
        OptionError: the option is named, with what would give it an effect.
    """
    for settings in given:
        options = settings.get("options") or {}
        for prefix, model in config.options.items():
            check_effect(prefix, model, options.get(prefix) or {})
        for prefix in SECTIONS:
            check_effect(prefix, getattr(config, prefix), settings.get(prefix) or {})


def check_effect(prefix: str, options: Options, given: Collection[str]) -> None:
    """Refuse the options of one component that the user gave in vain.

    Args:
        prefix: of its options, such as "repr".
        options: checked.
        given: the names of those that the user gave.

    Raises:
        OptionError: as `check_effects`.
    """
    usual = type(options).model_fields
    for name, need in marked(options, "needs").items():
        if name not in given or getattr(options, name) == usual[name].get_default():
            continue
        for part in need.split(" and "):
            conditions = [_Condition(options, text) for text in part.split(" or ")]
            if not any(each.holds for each in conditions):
                now = " and ".join(f"{prefix}.{each.now}" for each in conditions)
                wanted = ", or ".join(f"{prefix}.{each.wanted}" for each in conditions)
                raise OptionError(
                    f"option {prefix}.{name} has no effect with {now}.",
                    expected=f"{wanted} with {prefix}.{name}.",
                    next=f"drop it, or {conditions[0].advice(prefix)}.",
                )


class _Condition:
    """One condition on an option: its name, and values, or one that it must not have."""

    def __init__(self, options: Options, text: str) -> None:
        left, _, right = text.partition("=")
        self.name, self.excludes = left.removesuffix("!"), left.endswith("!")
        self.values = right.split("|")
        self.value = as_typed(options.model_dump(mode="json")[self.name])

    @property
    def holds(self) -> bool:
        return (self.value in self.values) is not self.excludes

    @property
    def now(self) -> str:
        return f"{self.name} = {self.value}"

    @property
    def wanted(self) -> str:
        """Return what it should be, in words."""
        if self.excludes:
            return f"{self.name} other than {self.values[0]}"
        *others, last = self.values
        return f"{self.name} = {', '.join(others)}{' or ' if others else ''}{last}"

    def advice(self, prefix: str) -> str:
        """Return what to pass."""
        if self.excludes:
            return f"set -o {prefix}.{self.name}"
        return f"pass -o {prefix}.{self.name}={self.values[0]}"

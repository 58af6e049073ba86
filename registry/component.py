"""Descriptors: what a plugin states about a component before any of its code is imported."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry.errors import ContractError

if TYPE_CHECKING:
    from registry.options import Options

OFFERED_BY = "the plugin that offers it"
NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Component:
    """One thing users can choose by name. A plain value; making it does no work.

    Args:
        name: lower case letters, digits and underscores, starting with a letter.
        factory: a callable, called as `factory(options, **runtime)`, or its import string
            `"package.module:Name"`, resolved when the component is made.
        options: the `Options` subclass that describes its settings, or its import string;
            None if the component has no settings.
        summary: one line for lists of what there is.
    """

    name: str
    factory: Callable[..., Any] | str
    options: type[Options] | str | None = None
    summary: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ContractError(
                f"'{self.name}' cannot be the name of a component.",
                expected="lower case letters, digits and underscores, a letter first.",
                next="rename it in the plugin that offers it.",
            )

    def resolve_factory(self, offered_by: str = OFFERED_BY) -> Callable[..., Any]:
        """Import the factory if it is given as a string.

        Args:
            offered_by: names the plugin in messages.

        Raises:
            ContractError: the import string names nothing, or nothing that can be called.
        """
        found = _resolve(self.factory, self, offered_by)
        if not callable(found):
            raise ContractError(
                f"the factory of component '{self.name}' is {found!r}, which cannot be called.",
                expected="a class or a function.",
                next=f"fix {offered_by}.",
            )
        return found  # type: ignore[no-any-return]

    def resolve_options(self, offered_by: str = OFFERED_BY) -> type[Options]:
        """Import the options model if it is given as a string; `Options` itself if it has none.

        Args:
            offered_by: names the plugin in messages.
        """
        from registry.options import Options

        if self.options is None:
            return Options
        found = _resolve(self.options, self, offered_by)
        if not (isinstance(found, type) and issubclass(found, Options)):
            raise ContractError(
                f"the options of component '{self.name}' are {found!r}.",
                expected="a subclass of registry.Options.",
                next=f"fix {offered_by}.",
            )
        return found


def _resolve(target: object, component: Component, offered_by: str) -> Any:
    if not isinstance(target, str):
        return target
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ContractError(
            f"component '{component.name}' points to '{target}', which cannot be imported: "
            f"{error}.",
            expected="an import string of the form 'package.module:Name'.",
            next=f"fix or reinstall {offered_by}.",
        ) from error

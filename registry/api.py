"""The version of the plugin API: which one a plugin was built for, and whether that fits."""

from __future__ import annotations

import re
from typing import Any

from registry.catalogue import Provider
from registry.errors import ExplainedError


class ApiVersionError(ExplainedError):
    """A plugin that was built for another version of the plugin API."""


def check_api(plugin: Any, provider: Provider, *, attribute: str, offered: str) -> None:
    """Refuse a plugin that was built for an API that is not offered here.

    MAJOR must be the same, and MINOR not newer than the one offered. A plugin that does not have
    the attribute is accepted.

    Args:
        plugin: the module, or whatever holds the hooks.
        provider: where it comes from, for the message.
        attribute: where it says which version it was built for.
        offered: the version here, MAJOR.MINOR.

    Raises:
        ApiVersionError: the versions do not fit, or what the plugin says is no version.
    """
    built_for = getattr(plugin, attribute, None)
    if built_for is None:
        return
    if not isinstance(built_for, str) or not re.fullmatch(r"[0-9]+\.[0-9]+", built_for):
        raise ApiVersionError(
            f"{attribute} = {built_for!r} is no version.",
            expected=f'text of the form MAJOR.MINOR, for example "{offered}".',
            next=f"mend plugin '{provider.entry_point}', or leave {attribute} out.",
        )
    theirs, ours = _numbers(built_for), _numbers(offered)
    if theirs[0] == ours[0] and theirs[1] <= ours[1]:
        return
    if theirs > ours:
        remedy = "upgrade the program, or install an older version of the plugin"
    else:
        remedy = f"install a newer version of {provider.distribution}, or ask its authors for one"
    raise ApiVersionError(
        f"it was built for version {built_for} of the plugin API, but this is version {offered}.",
        expected=f"version {ours[0]}.0" + (f" to {offered}." if ours[1] else "."),
        next=f"{remedy}.",
    )


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)

"""The version of the plugin API: which one a plugin was built for, and whether that fits."""

from __future__ import annotations

import re
from typing import Any

from registry.catalogue import Provider
from registry.errors import ExplainedError


class ApiVersionError(ExplainedError):
    """A plugin that was built for another version of the plugin API."""


def check_api(plugin: Any, provider: Provider, *, attribute: str, offered: str) -> None:
    """Refuse a plugin built for an API version that this program does not offer.

    MAJOR must be equal, and MINOR at most the one offered. A plugin without the attribute is
    accepted.

    Args:
        plugin: the module or object that holds the hooks.
        provider: where it comes from, for the message.
        attribute: name of the plugin's attribute that states the version it was built for.
        offered: the version here, MAJOR.MINOR.

    Raises:
        ApiVersionError: the versions do not fit, or the plugin's is not a version.
    """
    built_for = getattr(plugin, attribute, None)
    if built_for is None:
        return
    if not isinstance(built_for, str) or not re.fullmatch(r"[0-9]+\.[0-9]+", built_for):
        raise ApiVersionError(
            f"{attribute} = {built_for!r} is not a version.",
            expected=f'text of the form MAJOR.MINOR, for example "{offered}".',
            next=f"fix plugin '{provider.entry_point}', or leave {attribute} out.",
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

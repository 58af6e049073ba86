"""Settings before they are checked: read from files and options, named, merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from distill_core import __version__
from distill_core.config.named_models import first_distills
from distill_core.config.run_config import RunConfig, default_choice
from distill_core.config.sections import SECTIONS
from distill_core.hookspecs import BY_OPTION, KINDS
from distill_core.system.files import parse_toml
from distill_core.system.plain_files import read_named
from registry import InputError, OptionError, UnknownNameError
from registry.options import Options

FORMAT = 1  # of run.toml
# Where and how fast a run is computed; its result stays valid when these change.
MACHINE = ("device", "threads", "allocator", "procs", "checkpoint_minutes", "rank_timeout_minutes")


def read_settings(path: Path) -> dict[str, Any]:
    """Read a TOML configuration file that the user named.

    Raises:
        InputError: it does not exist, is too large, or as `parse_settings`.
    """
    try:
        data = read_named(path)
    except FileNotFoundError:
        raise InputError(
            f"there is no configuration file {path}.",
            expected="a TOML file, for example the run.toml of a run directory.",
            next="check the path.",
        ) from None
    except OSError as error:
        raise _unreadable(path, error.strerror or error) from None
    return parse_settings(data, path)


def parse_settings(data: bytes, path: Path) -> dict[str, Any]:
    """Read the content of a TOML configuration file; key `format` says that a run wrote it.

    Args:
        data: the content.
        path: where it was, for messages.

    Raises:
        InputError: it is not TOML (the line is named) or is of a newer distill.
    """
    try:
        settings = parse_toml(data.decode("utf-8-sig"))  # some editors write a mark at the start
    except ValueError as error:
        raise _unreadable(path, error) from None
    written = settings.get("format", FORMAT)
    if written != FORMAT:
        raise InputError(
            f"{path} has format {written!r}.",
            expected=f"format {FORMAT}, which distill {__version__} reads, or none.",
            next="use the version of distill that wrote it, or a newer one.",
        )
    return settings


def _unreadable(path: Path, why: object) -> InputError:
    return InputError(
        f"{path} cannot be read: {why}.",
        expected="a TOML file, for example the run.toml of a run directory.",
        next="correct the file.",
    )


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn `-o kind.field=value` pairs into nested settings.

    `data.*`, `engine.*` and `evaluate.*` are the core's own, `run.*` a field of the run itself,
    all others belong to a component. Values are strings, which the models convert; lists, tables
    and quoted strings are read as TOML.

    Raises:
        OptionError: a pair does not have this form.
        UnknownNameError: its prefix is unknown.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        prefix, dot, name = key.strip().partition(".")
        if not (equals and dot and name and prefix):
            raise OptionError(
                f"-o {pair} has no effect.",
                expected="the form -o kind.field=value, for example -o algo.window=60.",
                next="correct it.",
            )
        set_option(settings, key.strip(), _value(text.strip(), pair))
    return settings


def set_option(settings: dict[str, Any], option: str, value: Any) -> None:
    """Put the value of `kind.field`, as `-o` names options, into nested settings.

    Raises:
        UnknownNameError: there is no such kind.
    """
    prefix, _, name = option.partition(".")
    settings |= _merge_tables(settings, _placed(prefix, {name: value}))


def _placed(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in which the options of a prefix have these values."""
    if prefix == "run":
        return values
    if prefix in SECTIONS:
        return {prefix: values}
    if prefix in BY_OPTION:
        return {"options": {prefix: values}}
    raise UnknownNameError(
        "kind of option", prefix, known=[*BY_OPTION, *SECTIONS, "run"], next="correct it."
    )


def _value(text: str, pair: str) -> Any:
    if not text.startswith(("[", "{", '"', "'")):
        return text
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError as error:
        raise OptionError(
            f"-o {pair} cannot be read: {error}.",
            expected="a TOML list, table or quoted string.",
            next="quote the whole argument for the shell.",
        ) from None


def undotted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a file, whose options may also be named as after `-o`.

    >>> undotted({"algo": "dm", "algo.real_batch": 64, "repr": {"size": "9x9"}})
    {'algo': 'dm', 'options': {'algo': {'real_batch': 64}, 'repr': {'size': '9x9'}}}

    Raises:
        UnknownNameError: a dotted name is of no known kind.
    """
    found = {name: value for name, value in settings.items() if not _is_dotted(name, value)}
    for name, value in settings.items():
        if _is_dotted(name, value):
            table = value.items() if name in BY_OPTION else [("", value)]
            for option, each in table:
                set_option(found, f"{name}.{option}" if option else name, each)
    return found


def _is_dotted(name: str, value: Any) -> bool:
    """Say whether an entry is options of a component: `algo.window = 5`, with quotes or without."""
    return "." in name or (name in BY_OPTION and isinstance(value, Mapping))


def settings_models() -> dict[str, type[Options]]:
    """Return the models of the core's own settings, by their prefix on the command line."""
    return {"run": RunConfig, **SECTIONS}


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings as one table, by their names on the command line.

    >>> flatten({"seed": 3, "data": {"validation": 0.2}, "options": {"algo": {"window": 60}}})
    {'seed': 3, 'data.validation': 0.2, 'algo.window': 60}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            where = "" if name == "options" else f"{name}."
            found |= {f"{where}{key}": each for key, each in flatten(value).items()}
        else:
            found[name] = value
    return found


def merge(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested settings; where both set a value, the stronger one wins.

    Where `stronger` chooses another component of a kind, the options that `weaker` had for the
    old one are dropped: they belong to it.
    """
    weaker, stronger = first_distills(weaker), first_distills(stronger)
    result = dict(weaker)
    options = dict(result.get("options", {}))
    for kind in BY_OPTION:
        old = weaker.get(kind, default_choice(kind))
        if old is not None and stronger.get(kind, old) != old:
            options.pop(kind, None)
    if options or "options" in result:
        result["options"] = options
    return _merge_tables(result, stronger)


def _merge_tables(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(weaker)
    for key, value in stronger.items():
        old = result.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        result[key] = _merge_tables(old, value) if both else value  # type: ignore[arg-type]
    return result


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Turn {"algo.window": 60} or {"algo": {"window": 60}} into a configuration.

    Raises:
        OptionError: they are no dictionary, or a name has no kind before it.
        UnknownNameError: there is no such kind of option.
    """
    settings: dict[str, Any] = {}
    short = {kind.name: kind.option for kind in KINDS}
    if not isinstance(options, Mapping):
        raise OptionError(
            f"options are a {type(options).__name__}.",
            expected="a dictionary, for example {'algo.window': 60}.",
            next="correct it.",
        )
    for key, value in options.items():
        prefix, dot, name = key.partition(".")
        prefix = short.get(prefix, prefix)
        if not dot and not isinstance(value, Mapping):
            raise OptionError(
                f"options[{key!r}] has no effect.",
                expected="a name such as 'algo.window', or a dictionary.",
                next="correct it.",
            )
        settings = merge(settings, _placed(prefix, {name: value} if dot else dict(value)))
    return settings

"""Options: the settings of a component, checked in one place before any work is done.

Of the registry's modules this one and `option_errors` import pydantic. The others stay light, so
that listing what is installed is fast.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from registry.option_errors import explain

OptionsT = TypeVar("OptionsT", bound="Options")
NONE = "none"
LARGEST = 2**63 - 1  # what libraries for arrays can count


class Options(BaseModel):
    """Base class of all settings: frozen, unknown keys refused, defaults checked.

    Declare every field with a default, bounds and a `description`, and its unit and origin with
    `about`:

    >>> from pydantic import Field
    >>> class Mine(Options):
    ...     length: int = Field(9, ge=1, description="of the loop", **about("steps", "Smith 2020"))

    An option that a later version does without goes into `retired`, with the value that it has for
    good, so that files which name it are read as before; another value is refused.

    >>> class Yours(Options):
    ...     retired: ClassVar = {"length": 9}
    >>> Yours.model_validate({"length": 9})
    Yours()
    """

    retired: ClassVar[Mapping[str, Any]] = {}

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    # Two underscores: pydantic lets a method of a subclass replace a validator of the same name.
    @model_validator(mode="before")
    @classmethod
    def __read(cls, given: Any) -> Any:
        """Read the word "none" as None where the type has None: files have no other word for it.

        Options that are retired are left out, if they have the value that is left.
        """
        if not isinstance(given, Mapping):
            return given
        gone = _retired(cls)
        return {
            name: None if value == NONE and _may_be_none(cls, name) else value
            for name, value in given.items()
            if name not in gone or (None if value == NONE else value) != gone[name]
        }

    @field_validator("*", mode="before")
    @classmethod
    def __is_no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false for a number: Python takes them for 1 and 0."""
        kind = cls.model_fields[info.field_name or ""].annotation
        kinds = get_args(kind) or (kind,)
        if isinstance(value, bool) and bool not in kinds and {int, float}.intersection(kinds):
            raise ValueError("a number, not true or false")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def __is_no_empty_path(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse an empty text for a path: Python takes it for the current folder."""
        if value == "" and takes_path(cls, info.field_name or ""):
            raise ValueError("a path; . is the current folder")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def __can_be_counted(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a number of things that no array can have, before somebody makes one."""
        extra = cls.model_fields[info.field_name or ""].json_schema_extra
        counts = isinstance(extra, dict) and extra.get("unit")
        if type(value) is int and value > LARGEST and counts:
            raise ValueError(f"less than or equal to {LARGEST:,}")
        return value


def takes_path(model: type[BaseModel], name: str) -> bool:
    """Return whether the values of an option are paths, perhaps among others.

    >>> class Mine(Options):
    ...     root: Path | None = None
    ...     size: int = 3
    >>> [name for name in Mine.model_fields if takes_path(Mine, name)]
    ['root']
    """
    kind = model.model_fields[name].annotation
    return Path in (kind, *get_args(kind))


def _retired(model: type[BaseModel]) -> dict[str, Any]:
    """Return the options that a model and those that it is made of have had, and their values."""
    own = [vars(each).get("retired", {}) for each in model.__mro__]
    return {name: value for each in reversed(own) for name, value in each.items()}


def _may_be_none(model: type[BaseModel], name: str) -> bool:
    """Return whether an option has None among its values, and not the word "none" itself."""
    field = model.model_fields.get(name)
    members = get_args(field.annotation) if field else ()
    words = [word for each in members if get_origin(each) is Literal for word in get_args(each)]
    return type(None) in members and NONE not in words


def written(options: Options) -> dict[str, Any]:
    """Return options as plain values for a file, which may have no word for None.

    An option that is None is left out where that is its default, and is the word "none" elsewhere.

    >>> class Tea(Options):
    ...     grams: int | None = 3
    ...     minutes: int | None = None
    >>> written(Tea(grams=None))
    {'grams': 'none'}
    """
    values = options.model_dump(mode="json")
    defaults = {name: field.default for name, field in type(options).model_fields.items()}
    kept = {n: v for n, v in values.items() if v is not None or defaults[n] is not None}
    return {name: NONE if value is None else value for name, value in kept.items()}


@cache
def joined(own: type[Options], common: type[Options]) -> type[Options]:
    """Return a model with the options of both; where a name is in both, with that of `own`.

    >>> class Tea(Options):
    ...     grams: int = 3
    >>> class Served(Options):
    ...     cups: int = 1
    >>> list(joined(Tea, Served).model_fields)
    ['grams', 'cups']
    """
    made = _model_of(own, _without(common, own.model_fields))

    def reduced(options: Options) -> Any:
        """Tell pickle how to make such options: no module has their model by its name."""
        return _joined_options, (own, common, dict(options), options.model_fields_set)

    made.__reduce__ = reduced  # type: ignore[assignment,method-assign]
    return made


def _model_of(own: type[Options], common: type[Options]) -> type[Options]:
    return create_model(
        own.__name__, __base__=(common, own), __module__=own.__module__, __doc__=own.__doc__
    )


def _without(common: type[Options], taken: Collection[str]) -> type[Options]:
    """Return a model without the options that have these names."""
    fields = common.model_fields
    if not set(fields).intersection(taken):
        return common
    kept: dict[str, Any] = {
        name: (field.annotation, field) for name, field in fields.items() if name not in taken
    }
    return create_model(common.__name__, __base__=Options, __doc__=common.__doc__, **kept)


def _joined_options(
    own: type[Options], common: type[Options], values: Mapping[str, Any], given: set[str]
) -> Options:
    return joined(own, common).model_construct(given, **values)


def about(unit: str = "", source: str = "", **marks: str) -> dict[str, Any]:
    """Return the arguments of pydantic's `Field` that state an option's unit and origin.

    Args:
        unit: what a number counts or is measured in; empty where it has no dimension.
        source: where the option comes from, such as a section of a paper; empty where it is new.
        marks: what else the program can use, by names that the program defines; see `marked`.

    >>> about("steps")
    {'json_schema_extra': {'unit': 'steps', 'source': ''}}
    """
    stated: dict[str, Any] = {"unit": unit, "source": source}
    return {"json_schema_extra": {**stated, "marks": marks} if marks else stated}


def marked(options: Options | type[Options], mark: str) -> dict[str, str]:
    """Return the options that `about` gave a mark: what the mark says, by the option's name.

    Args:
        options: a model or its values.
        mark: the name of the mark.

    >>> from pydantic import Field
    >>> class Tea(Options):
    ...     grams: int = Field(3, **about("grams", weaker="1"))
    >>> marked(Tea(), "weaker")
    {'grams': '1'}
    """
    model = options if isinstance(options, type) else type(options)
    extras = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    marks: dict[str, Any] = {
        name: extra.get("marks", {}) for name, extra in extras.items() if isinstance(extra, dict)
    }
    return {name: own[mark] for name, own in marks.items() if mark in own}


def check_options(
    model: type[OptionsT], settings: Mapping[str, Any], *, where: str, explained: str = ""
) -> OptionsT:
    """Turn raw settings into a checked model.

    Args:
        model: the options model of a component.
        settings: values as they come from a file or the command line; strings are converted.
        where: prefix of the option names in messages, for example "algo".
        explained: what explains the options, for the error's next step; empty: nothing does.

    Raises:
        OptionError: one or more settings are wrong; all of them are named. An `OptionError` that
            a validator of the model raises passes unchanged.
    """
    try:
        return model.model_validate(dict(settings))
    except ValidationError as error:
        raise explain(model, error, where, explained, gone=_retired(model)) from None

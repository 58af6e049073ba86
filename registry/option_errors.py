"""What pydantic found wrong with options, in words that a user can act on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from registry.errors import OptionError, few_of, nearest

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
BOUNDS = {"greater than or equal to": "at least", "less than or equal to": "at most"}


def explain(
    model: type[BaseModel],
    error: ValidationError,
    where: str,
    explained: str,
    *,
    gone: Mapping[str, Any],
) -> OptionError:
    """Return one error that names all that is wrong.

    An `OptionError` that a validator of the model raised is returned unchanged.

    Args:
        model: what the settings were checked against.
        error: what pydantic found.
        where: prefix of the option names, for example "algo".
        explained: what explains the options, for the next step; empty: nothing does.
        gone: options of earlier versions, with the value that each has for good.
    """
    if already := _explained_already(error):
        return already
    problems = error.errors(include_url=False, include_context=True)
    whats, expecteds, remedies = [], [], []
    for problem in problems:
        name = ".".join(str(part) for part in problem["loc"] if not _is_branch(part))
        full = f"{where}.{name}" if name else where
        if problem["type"] == "extra_forbidden" and name in gone:
            whats.append(f"option {full} = {problem['input']!r} is not there any more.")
            expecteds.append(
                f"{full} = {gone[name]!r}, as without it; earlier versions had others."
            )
            remedies.append("")
        elif problem["type"] == "extra_forbidden":
            close = nearest(name, model.model_fields)
            hint = f" Did you mean '{where}.{close}'?" if close else ""
            known = few_of(list(model.model_fields), name) or "(it has no options)"
            whats.append(f"unknown option {full}.{hint}")
            expecteds.append(f"one of: {known}.")
            remedies.append(f"-o {where}.{close}=VALUE" if close else "")
        elif problem["type"] == "missing":
            description = _description(model, name)
            whats.append(f"option {full} is not given.")
            expecteds.append(f"{full}{f': {description}' if description else ''}.")
            remedies.append(f"-o {full}=VALUE")
        else:
            reason = _plain(problem)
            shown = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
            whats.append(f"option {full}{shown} is not valid.{_near_choice(problem)}")
            expecteds.append(f"{full}: {reason}.")
            remedies.append(f"-o {full}=VALUE" if name else "")
    passed = [f"pass {' '.join(dict.fromkeys(filter(None, remedies)))}"] if any(remedies) else []
    return OptionError(
        " ".join(whats),
        expected=" ".join(dict.fromkeys(expecteds)),
        next=f"{'; '.join(filter(None, (*passed, explained))) or 'leave it out'}.",
    )


def _explained_already(error: ValidationError) -> OptionError | None:
    """Return the error that a validator of the model raised about several fields, if any."""
    causes = [problem.get("ctx", {}).get("error") for problem in error.errors(include_url=False)]
    return next((cause for cause in causes if isinstance(cause, OptionError)), None)


def _near_choice(problem: Mapping[str, Any]) -> str:
    """Return the question for the nearest of several fixed values, if the problem is a choice."""
    if problem["type"] != "literal_error" or not isinstance(problem["input"], str):
        return ""
    close = nearest(problem["input"], re.findall("'([^']*)'", problem["ctx"]["expected"]))
    return f" Did you mean '{close}'?" if close else ""


def _description(model: type[BaseModel], name: str) -> str:
    field = model.model_fields.get(name)
    return (field.description if field else None) or ""


def _is_branch(part: object) -> bool:
    """Pydantic names the member of a union in `loc`, which users need not see."""
    return isinstance(part, str) and ("[" in part or part in {"int", "float", "bool", "str"})


def _plain(problem: Mapping[str, Any]) -> str:
    """Return what pydantic expected, in our words: of its `int_parsing` only the type is news."""
    kind, _, rest = problem["type"].partition("_")
    if kind in KINDS and rest in {"parsing", "type", "from_float"}:
        return KINDS[kind]
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    for long, short in BOUNDS.items():
        message = message.replace(long, short)
    message = message.rstrip(".")
    return message[0].lower() + message[1:] if message else "another value"

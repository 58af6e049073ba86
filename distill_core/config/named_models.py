"""Models by name: `timm:resnet18` is a component, and one of the many models that it makes.

A component that makes many marks the option that names one with `about(..., models="package.module:
function")`: an import string of what returns all names. It should import nothing heavy.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from distill_core.hookspecs import BY_OPTION
from registry import Component, Components, OptionError, Plugins, UnknownNameError
from registry.options import Options, marked

MARK, COLON = "models", ":"
BACKBONE, JUDGES = "backbone", "backbones"  # the setting of a run, and that of its section evaluate


def full_name(name: str, options: Options) -> str:
    """Return the name of a component as users type it, with that of its model if it makes many."""
    return COLON.join([name, *(str(getattr(options, option)) for option in marked(options, MARK))])


def all_models(options: type[Options]) -> list[str]:
    """Return the names of all models that a component makes; none if it is just one."""
    found: list[str] = []
    for target in marked(options, MARK).values():
        module, _, function = target.partition(COLON)
        found += getattr(importlib.import_module(module), function)()
    return found


def by_name(settings: Mapping[str, Any], plugins: Plugins) -> dict[str, Any]:
    """Return settings in which `timm:resnet18` is a component with an option.

    Raises:
        UnknownNameError, OptionError: there is no such component, it is a single model, or its
            option names another one.
    """
    found = dict(settings)
    for prefix, kind in BY_OPTION.items():
        name, colon, model = str(settings.get(prefix) or "").partition(COLON)
        catalogue = plugins[kind.name]
        if not colon:
            if name and name not in catalogue:
                _refuse_model(name, prefix, catalogue)
            continue
        options = catalogue.call(name, catalogue[name].resolve_options)
        (option,) = marked(options, MARK) or (None,)
        if option is None or not model:
            why = f"'{name}' is a single one" if option is None else "nothing follows the colon"
            raise OptionError(
                f"'{settings[prefix]}' names no {kind.name}: {why}.",
                expected=f"{' or '.join(_with_models(catalogue)) or f'a {kind.name} alone'}.",
                next=f"pass --{prefix} {name}, or see `distill list {kind.name} --filter '*'`.",
            )
        tables = dict(found.get("options", {}))
        given = dict(tables.get(prefix, {}))
        if given.get(option, model) != model:
            raise OptionError(
                f"two models are named: {settings[prefix]} and {prefix}.{option} = "
                f"{given[option]!r}.",
                expected="one of them.",
                next=f"leave -o {prefix}.{option} out.",
            )
        found |= {prefix: name, "options": {**tables, prefix: {**given, option: model}}}
    return found


def _with_models(catalogue: Mapping[str, Component]) -> list[str]:
    """Return how the models of each component that makes many are named."""
    return [f"{n}:MODEL" for n, one in catalogue.items() if marked(one.resolve_options(), MARK)]


def _refuse_model(model: str, prefix: str, catalogue: Components) -> None:
    """Refuse the name of a model that stands alone, with the component that makes it."""
    for name, one in catalogue.items():
        options = catalogue.call(name, one.resolve_options)
        if model in catalogue.call(name, all_models, options):
            whole = f"{name}{COLON}{model}"
            raise UnknownNameError(
                catalogue.kind.name, model, known=catalogue, next=f"pass --{prefix} {whole}."
            )


def first_distills(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings where, of several backbones, the first distills and the others judge, too.

    >>> first_distills({"backbone": ["convnet", "timm:resnet18"], "seed": 1})
    {'backbone': 'convnet', 'seed': 1, 'evaluate': {'backbones': ['timm:resnet18']}}
    """
    names = settings.get(BACKBONE)
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        return dict(settings)
    first, *others = names
    judged = {**settings.get("evaluate", {}), **({JUDGES: others} if others else {})}
    return {**settings, BACKBONE: first, **({"evaluate": judged} if judged else {})}


def unjudged(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> list[str]:
    """Return the judges of the weaker settings that are not among those of the stronger ones.

    >>> unjudged({"evaluate": {"backbones": ["timm:vit"]}}, {"backbone": ["convnet", "timm:swin"]})
    ['timm:vit']
    """
    old, new = (first_distills(each).get("evaluate", {}).get(JUDGES) for each in (weaker, stronger))
    return [name for name in old or () if new and name not in new]

"""New plugins: a complete package for one component, from the plain files in `templates`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template

from distill_core.hookspecs import API_VERSION
from distill_core.system.files import write_atomically
from distill_core.system.folders import whole_folder
from registry import InputError, Kind, Plugins
from registry.component import NAME

LONGEST = 24  # characters; longer names would break the lines of the templates
_RUN = {
    "representation": "--repr {} --labeler soft --orderer identity --algo dm",
    "labeler": "--repr images --labeler {} --orderer identity --algo dm",
    "orderer": "--repr poster --labeler poddl --orderer {} --algo ratbptt",
    "algorithm": "--repr images --labeler onehot --orderer identity --algo {}",
    "dataset": "--repr images --labeler onehot --orderer identity --algo dm --dataset {}",
    "backbone": "--repr images --labeler onehot --orderer identity --algo dm --backbone {}",
}
_SUMMARY = {
    "representation": "images at half resolution",
    "labeler": "the class that covers most, smoothed",
    "orderer": "classes by mean brightness",
    "algorithm": "class means of features",
    "dataset": "stripes in several directions, generated",
    "backbone": "two small convolutions",
}


def component_name(given: str) -> str:
    """Return the name of a component whose package is to have a name: without hyphens.

    >>> component_name("my-order")
    'my_order'
    """
    return given.replace("-", "_")


def new_plugin(name: str, kind: Kind, folder: Path, plugins: Plugins) -> list[Path]:
    """Write an installable package that offers one working component.

    Args:
        name: of the component and its entry point, as `component_name` returns it; the
            distribution is `distill-NAME`.
        kind: of the component.
        folder: where the package's own folder, named after the distribution, is made.
        plugins: what is installed.

    Returns:
        The files, project file first; all of them in one new folder.

    Raises:
        InputError: the name is not valid, or in use; nothing was written.
        EnvironmentFault: the folder cannot be written; nothing of it is left.
    """
    distribution = f"distill-{name.replace('_', '-')}"
    module = f"distill_{name}"
    target = folder / distribution
    _check_name(name, kind, plugins)
    _check_free((module, f"{module}_plugin"), target)
    camel = "".join(part.capitalize() for part in name.split("_"))
    values = {
        "api": API_VERSION,
        "cls": camel if name.endswith(f"_{kind.name}") else camel + kind.name.capitalize(),
        "distribution": distribution,
        "hook": kind.hook,
        "kind": kind.name,
        "module": module,
        "name": name,
        "options": f"{camel}Options",
        "run": _RUN[kind.name].format(name),
        "summary": _SUMMARY[kind.name],
    }
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{module}.py": f"{kind.name}.py",
        f"{module}_plugin.py": "plugin.py",
        f"tests/test_{name}.py": "test.py",
    }
    templates = resources.files(__package__) / "templates"
    # All templates are filled in before anything is written.
    filled = {
        file: Template((templates / f"{source}.txt").read_text("utf-8")).substitute(values)
        for file, source in files.items()
    }
    with whole_folder(target) as whole:
        for file, text in filled.items():
            write_atomically(whole / file, text.encode())
    return [target / file for file in filled]


def _check_name(name: str, kind: Kind, plugins: Plugins) -> None:
    if not NAME.fullmatch(name) or len(name) > LONGEST or "__" in name or name.endswith("_"):
        raise InputError(
            f"'{name}' cannot be the name of a plugin.",
            expected=f"at most {LONGEST} lower case letters, digits and single underscores or "
            "hyphens, with a letter at the start and none of the others at the end.",
            next="choose another name, for example my_" + kind.name + ".",
        )
    known = [*plugins.providers, *(failure.provider for failure in plugins.failures)]
    owner = next((str(each) for each in known if each.entry_point == name), None)
    if name in plugins[kind.name]:
        owner = str(plugins[kind.name].entry(name).provider)
    if owner is not None:
        raise InputError(
            f"the name '{name}' is taken by plugin {owner}.",
            expected="a name that no installed plugin and no installed component of the kind has.",
            next=f"choose another name; `distill list {kind.name}` and `distill plugins` show "
            "those that are taken.",
        )


def _check_free(modules: Sequence[str], target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise InputError(
            f"{target} is there already.",
            expected="a folder that is not there yet.",
            next="choose another name, or another place with --out.",
        )
    for module in modules:
        if importlib.util.find_spec(module) is not None:
            raise InputError(
                f"a module '{module}' is installed already.",
                expected="a module name that is free.",
                next="choose another name, or uninstall that package.",
            )

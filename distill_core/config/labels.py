"""The labels of a run where nobody says which: those that its algorithm can use.

A labeler whose labels are learned unless an option fixes them marks that option with
`about(..., fixes_labels=VALUE)`; see `advice.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry import Plugins
from registry.options import Options, marked

LABELER, ALGORITHM = "labeler", "algo"  # as prefixes of options


def usable_labels(
    options: Mapping[str, Options],
    given: Mapping[str, Mapping[str, Any]],
    plugins: Plugins,
    *,
    labeler: str,
    algorithm: str,
) -> Options:
    """Return the options of a labeler, which fix its labels if the algorithm learns none.

    Args:
        options: of the components, checked, by prefix.
        given: what they were made of; an option that is named there stays as it is.
        plugins: what is installed.
        labeler: name of the labeler.
        algorithm: name of the algorithm.
    """
    before = given.get(LABELER, {})
    marks = marked(options[LABELER], "fixes_labels")
    fixed = {name: value for name, value in marks.items() if name not in before}
    if not fixed or learns_labels(options[ALGORITHM], algorithm, plugins):
        return options[LABELER]
    return plugins["labeler"].check(labeler, {**before, **fixed})


def learns_labels(options: Options, algorithm: str, plugins: Plugins) -> bool:
    """Return whether labels may have parameters beside an algorithm.

    So they may if it learns labels, or learns nothing at all. Options that decide it are marked
    with `about(..., learns_labels=VALUE)`; without such, the algorithm's class says it.
    """
    if marks := marked(options, "learns_labels"):
        return any(str(getattr(options, name)).lower() == value for name, value in marks.items())
    algorithms = plugins["algorithm"]
    made = algorithms.call(algorithm, algorithms[algorithm].resolve_factory)
    return not getattr(made, "learns", True) or bool(getattr(made, "learns_labels", True))


def fixing(labeler: Options) -> list[str]:
    """Return the options of a labeler that fix its labels, as users type them."""
    return [
        f"{LABELER}.{name}={value}"
        for name, value in marked(labeler, "fixes_labels").items()
        if str(getattr(labeler, name)).lower() == value
    ]

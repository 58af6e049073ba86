"""Who imports whom, from the source of every file: also within functions, and for types alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

OURS = ("registry", "distill_core", "podd_plugin")
Graph = Mapping[str, frozenset[str]]


def modules(source: str, package: str, *, strings: bool = True) -> Iterator[str]:
    """Yield the full name of every module that a file imports, wherever it does.

    Args:
        source: the text of the file.
        package: where it is, for relative imports.
        strings: count import strings ("package.module:Name", or a plain dotted name), too.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif strings and isinstance(node, ast.Constant) and isinstance(node.value, str):
            target = node.value.partition(":")[0]
            if target.startswith(tuple(f"{name}." for name in OURS)) and target.isprintable():
                yield target


def sources(root: Path, package: str) -> dict[str, str]:
    """Return the text of every file of a package, by its path from the root of the checkout."""
    files = sorted((root / package).rglob("*.py"))
    assert files
    return {file.relative_to(root).as_posix(): file.read_text() for file in files}


def module_name(path: str) -> str:
    """Return the module that a file is.

    >>> module_name("distill_core/run/__init__.py")
    'distill_core.run'
    """
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def import_graph(files: Mapping[str, str]) -> Graph:
    """Return the modules among `files` that each of them imports.

    Import strings are not counted: what they name is imported when it is used.
    """
    known = {module_name(path) for path in files}
    return {
        module_name(path): frozenset(
            target
            for name in _plain_imports(source)
            if (target := _nearest(name, known)) and target != module_name(path)
        )
        for path, source in files.items()
    }


def _plain_imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _nearest(name: str, known: Iterable[str]) -> str:
    """The module that an imported name is, or is in; "" for one of others, or the version."""
    if name == "distill_core.__version__":
        return ""
    return next((each for each in (name, name.rpartition(".")[0]) if each in known), "")


def circles(graph: Graph) -> list[list[str]]:
    """Return the circles of a graph: sets of modules each of which leads to all others (Tarjan)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        path.append(module)
        for target in sorted(graph[module]):
            if target not in number:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in path:
                low[module] = min(low[module], number[target])
        if low[module] == number[module]:
            circle = path[path.index(module) :]
            del path[path.index(module) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for module in graph:
        if module not in number:
            visit(module)
    return found


def floors(graph: Graph) -> int:
    """Return the length of the longest chain of imports; the graph has no circle."""
    height: dict[str, int] = {}

    def measure(module: str) -> int:
        if module not in height:
            height[module] = 1 + max((measure(target) for target in graph[module]), default=0)
        return height[module]

    return max(measure(module) for module in graph)

"""Write `distill_core/plugin/__init__.pyi`: `python -m tests.distill_core.plugin_stub`."""

from __future__ import annotations

from pathlib import Path

from distill_core import plugin

PATH = Path(plugin.__file__).with_suffix(".pyi")
HEAD = '''"""Types of the public face, written by `python -m tests.distill_core.plugin_stub`."""

'''
TAIL = """
Table = dict[str, dict[str, tuple[str, ...]]]

CONTRACTS: Table
TOOLS: Table

def homes(table: Table) -> dict[str, str]: ...
def tier(name: str) -> int: ...
"""


def stub() -> str:
    """Return the text of the stub: an import for every name of both tiers."""
    homes = plugin.homes(plugin.CONTRACTS) | plugin.homes(plugin.TOOLS)
    lines = [f"from {module} import {name} as {name}\n" for name, module in homes.items()]
    return HEAD + "".join(sorted(lines)) + TAIL


if __name__ == "__main__":
    PATH.write_text(stub(), encoding="utf-8")

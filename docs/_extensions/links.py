"""Links that leave the pages: to PyTorch's and Python's by rule, to files of the repository.

No inventory is fetched: the pages of both have addresses that follow from the name. A relative
link to a file or folder outside `docs/` works on a git host as it is; in the site it leads to a
page that shows the text.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

TORCH = "https://docs.pytorch.org/docs/stable"
PYTHON = "https://docs.python.org/3/library"
PAGES = {
    "torch.Tensor": "tensors.html#torch.Tensor",
    "torch.device": "tensor_attributes.html#torch.device",
    "torch.dtype": "tensor_attributes.html#torch.dtype",
}
HOMES = {  # where a class says it is defined, and where it is documented
    "torch._C.": "torch.",
    "torch._tensor.": "torch.",
    "torch.nn.modules.module.": "torch.nn.",
    "torch.nn.parameter.": "torch.nn.",
    "torch.optim.optimizer.": "torch.optim.",
    "torch.utils.data.dataset.": "torch.utils.data.",
    "pathlib._local.": "pathlib.",
}
BUILTIN_TYPES = {"int", "float", "str", "bool", "list", "tuple", "dict", "set", "bytes", "range"}
TYPING = {"Any", "Callable", "ClassVar", "Literal", "NamedTuple", "Protocol"}
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)\)")


def address(target: str) -> str | None:
    """Return the page of a name of PyTorch or Python; None for names of neither.

    >>> address("torch.nn.modules.module.Module")
    'https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html'
    >>> address("pathlib.Path")
    'https://docs.python.org/3/library/pathlib.html#pathlib.Path'
    """
    for inner, public in HOMES.items():
        if target.startswith(inner):
            target = public + target.removeprefix(inner)
    module, _, name = target.rpartition(".")
    if module.startswith("torch.utils.data"):
        return f"{TORCH}/data.html#{target}"
    if module.split(".")[0] == "torch":
        return f"{TORCH}/{PAGES.get(target, f'generated/{target}.html')}"
    if module in {"collections.abc", "pathlib", "typing", "abc"}:
        return f"{PYTHON}/{module}.html#{target}"
    if module in {"", "builtins"} and name in BUILTIN_TYPES:
        return f"{PYTHON}/stdtypes.html#{name}"
    if module in {"", "builtins"} and name.endswith(("Error", "Exception")):
        return f"{PYTHON}/exceptions.html#{name}"
    return f"{PYTHON}/typing.html#typing.{name}" if not module and name in TYPING else None


def outside(text: str, page: Path, docs: Path) -> dict[str, Path]:
    """Return the links of a page that lead out of `docs`, with the file or folder of each."""
    found: dict[str, Path] = {}
    for link in LINK.findall(text):
        path = Path(os.path.normpath(page.parent / link))
        if path.exists() and not path.is_relative_to(docs):
            found[link] = path
    return found


def source_page(path: Path, root: Path) -> str:
    """Write a page with the text of a file, or of all files of a folder."""
    name = path.relative_to(root)
    files = [path] if path.is_file() else sorted(path.rglob("*.*"))
    parts = [f"# {name}\n"]
    for file in files:
        if not file.is_file() or "__pycache__" in file.parts or ".egg-info" in str(file):
            continue
        fence = "`````"
        language = {".py": "python", ".toml": "toml", ".md": "markdown"}.get(file.suffix, "text")
        text = file.read_text(encoding="utf-8")
        parts.append(f"`{file.relative_to(root)}`\n\n{fence}{language}\n{text}\n{fence}\n")
    return "\n".join(parts)


def slug(path: Path, root: Path) -> str:
    """Return the name of the page of a file: letters, digits and hyphens.

    >>> slug(Path("/r/tests/a_b.py"), Path("/r"))
    'tests-a-b-py'
    """
    return re.sub(r"[^a-z0-9]+", "-", str(path.relative_to(root)).lower()).strip("-")

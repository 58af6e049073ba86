"""Writes the generated pages before Sphinx reads, and resolves links that leave the site."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes

from distill_core.cli import main
from distill_core.config.discovery import discover
from docs._extensions import links, mathml
from docs._extensions.api_pages import api_pages
from docs._extensions.cli_page import cli_page
from docs._extensions.component_pages import component_pages, settings_page
from docs._extensions.hooks_page import hooks_page

GENERATED = "reference"


def generated_pages(docs: Path) -> dict[str, str]:
    """Return the text of every generated page by its path below `docs/reference`."""
    pages = {"cli.md": cli_page(main), "hooks.md": hooks_page(), "settings.md": settings_page()}
    pages |= {f"api/{name}.rst": text for name, text in api_pages().items()}
    pages |= {f"components/{kind}.md": text for kind, text in component_pages(discover()).items()}
    for page in [*docs.glob("*.md"), *docs.glob("guide/*.md")]:
        for path in links.outside(page.read_text(encoding="utf-8"), page, docs).values():
            text = links.source_page(path, docs.parent)
            pages[f"source/{links.slug(path, docs.parent)}.md"] = f"---\norphan: true\n---\n{text}"
    return pages


def write_pages(app: Any) -> None:
    """Write all of them, in place of those of the last build."""
    docs = Path(app.srcdir)
    shutil.rmtree(docs / GENERATED, ignore_errors=True)
    for name, text in generated_pages(docs).items():
        file = docs / GENERATED / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def lead_to_source_pages(app: Any, name: str, source: list[str]) -> None:
    """Point links to files outside `docs` to the pages that show them."""
    docs = Path(app.srcdir)
    page = Path(app.env.doc2path(name))
    for link, path in links.outside(source[0], page, docs).items():
        up = "../" * name.count("/")
        target = f"{up}{GENERATED}/source/{links.slug(path, docs.parent)}.md"
        source[0] = source[0].replace(f"]({link})", f"]({target})")


def resolve(app: Any, env: Any, node: Any, content: nodes.Node) -> nodes.Node | None:
    """Link a name of PyTorch or Python to its page."""
    del app, env
    found = links.address(node.get("reftarget", "")) if node.get("refdomain") == "py" else None
    return nodes.reference("", "", content, internal=False, refuri=found) if found else None


def setup(app: Any) -> dict[str, Any]:
    """Register everything with Sphinx."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", lead_to_source_pages)
    app.connect("missing-reference", resolve)
    app.add_html_math_renderer("mathml", (mathml.inline, None), (mathml.display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

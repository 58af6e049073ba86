"""A page in headless chromium: what it says of itself after its events, without a driver."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,3000"),
    *("--virtual-time-budget=5000", "--dump-dom"),
)
# Runs after everything is loaded; what `probe` returns is kept in an attribute.
RUN = """<script>addEventListener("load", () => {
const probe = () => { %s };
let found; try { found = probe(); } catch (error) { found = { error: String(error) }; }
document.body.dataset.probe = JSON.stringify({ title: document.title, found });
});</script>"""


class Page(HTMLParser):
    """The elements and texts of a page, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def look(page: Path, script: str, folder: Path) -> tuple[str, Any]:
    """Open a copy of a page with the body of a function added.

    Returns:
        The document's title, and what the function returned.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium is on PATH")
    text = page.read_text(encoding="utf-8")
    assert text.count("</body>") == 1
    copy = folder / "probed.html"
    copy.write_text(text.replace("</body>", RUN % script + "</body>"), encoding="utf-8")
    shown = subprocess.run(
        [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", copy.absolute().as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    ).stdout
    body = next(attrs for tag, attrs in Page(shown).tags if tag == "body")
    assert body["data-ready"] == "yes", html.escape(shown[-2000:])
    answer = json.loads(body["data-probe"] or "null")
    assert "error" not in (answer["found"] or {}), answer
    return answer["title"], answer["found"]

"""Picture files for the tests of datasets."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from PIL import Image

Files = Mapping[str, bytes]


def png(colour: tuple[int, int, int] | int, width: int = 8, height: int = 8) -> bytes:
    """A picture of one colour; grey for a number."""
    mode = "L" if isinstance(colour, int) else "RGB"
    return encoded(Image.new(mode, (width, height), colour))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def folder(path: Path, files: Files) -> Path:
    """Write files by their relative names."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def archive(path: Path, files: Files) -> Path:
    """Write files into a .zip; a name that ends with a slash is a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path

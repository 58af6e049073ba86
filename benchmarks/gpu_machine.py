"""What `gpu.py` knows of the machine and of the code that it measures; imports no torch itself."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
PACKAGES = ("registry", "distill_core", "podd_plugin")
GROUP = "distill"


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of processes that find this checkout and its plugins.

    Plugins are entry points, which a package has when it is installed. Where it is not, `folder`
    takes what an installation would declare, read from pyproject.toml.
    """
    found = [str(HERE), str(ROOT)]
    if not metadata.entry_points(group=GROUP):
        declare(folder)
        found.append(str(folder))
    path = os.pathsep.join(filter(None, [*found, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def declare(folder: Path) -> Path:
    """Write name and entry points of pyproject.toml as the metadata of a distribution."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = project["name"].replace("-", "_")
    info = folder / f"{name}-0+checkout.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0+checkout\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return info


def digest(files: Iterable[Path]) -> str:
    """Return a name for the content of files, whatever holds them: a checkout or a copy."""
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:12]


def sources() -> list[Path]:
    """Return all files that a measurement of the library depends on."""
    inside = [file for name in PACKAGES for file in (ROOT / name).rglob("*")]
    code = [file for file in inside if file.suffix in {".py", ".c", ".h", ".json"}]
    return [*code, *HERE.glob("gpu*.py"), HERE / "graph_unroll.py"]


def commit() -> str:
    """Return the commit, with a plus where files were changed since; nothing without git."""
    try:
        run = ["git", "-C", str(ROOT)]
        head = subprocess.run(
            [*run, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        )
        state = subprocess.run(
            [*run, "status", "--porcelain"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if state.stdout.strip() else "")


def about(device: str) -> dict[str, Any]:
    """Return what a measurement was made on; asks torch, so not for the process that waits."""
    import torch

    cuda = device.startswith("cuda")
    card = torch.cuda.get_device_name(device) if cuda else f"CPU ({platform.machine()})"
    return {
        "card": card,
        "memory": torch.cuda.get_device_properties(device).total_memory if cuda else None,
        "driver": _driver() if cuda else "",
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else "",
        "cudnn": torch.backends.cudnn.version() if cuda else "",
        "triton": version("triton"),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit(),
    }


def version(package: str) -> str:
    """Return the version of an installed package, or nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _driver() -> str:
    if not shutil.which("nvidia-smi"):
        return ""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    return told.stdout.split("\n", 1)[0].strip()

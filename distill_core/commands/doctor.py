"""What `distill doctor` checks: whether runs can be made here, and what would make them faster.

The network is not used.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from distill_core.commands.doctor_finding import Finding
from distill_core.config.discovery import collect_presets, discover
from distill_core.system.cache import cache_dir
from registry import ExplainedError

SPEED_SECONDS = 1.0


def examine() -> Iterator[Finding]:
    """Run all checks in order; a check that fails is a finding itself."""
    for check in (
        _versions,
        _built_together,
        _device,
        _machine,
        _kernels,
        _cache,
        _pictures,
        _folder,
        _plugins,
        _speed,
    ):
        yield from _safely(check)


def _safely(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    what = check.__name__.removeprefix("_").replace("_", " ")
    try:
        yield from check()
    except ExplainedError as error:
        yield Finding(what, "broken", error.what, error.next)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Finding(what, "broken", reason, "reinstall distill: pip install -e .")


def _versions() -> Iterator[Finding]:
    from distill_core.system.versions import versions

    for package, version in versions().items():
        if version == "not installed":
            yield Finding(package, "broken", version, "reinstall distill: pip install -e .")
        else:
            yield Finding(package, "ok", version)


def _built_together() -> Iterator[Finding]:
    from distill_core.system.versions import check_torchvision

    check_torchvision()  # a fault is a finding
    yield Finding("built together", "ok", "torch and torchvision")


def _device() -> Iterator[Finding]:
    from distill_core.commands.doctor_card import examine_device

    yield from examine_device()


def _machine() -> Iterator[Finding]:
    from distill_core.config.run_config import RunConfig
    from distill_core.system.devices import pick_device
    from distill_core.system.process import prepare

    device = pick_device("auto")
    machine = prepare(RunConfig(repr="", labeler="", orderer="", algo=""))
    yield Finding(
        "threads", "ok", f"{machine.threads} of {machine.cores}: {machine.threads_reason}"
    )
    tuned = machine.allocator == "tuned" or device.type != "cpu"
    yield Finding(
        "allocator",
        "ok" if tuned else "warn",
        f"{machine.allocator}: {machine.allocator_reason}",
        "" if tuned else "steps on the CPU may take twice as long; see docs/guide/machine.md",
    )


def _kernels() -> Iterator[Finding]:
    from distill_core.engine.kernels.native import Unavailable, library

    try:
        library()
    except Unavailable as error:
        yield Finding(
            "C kernels",
            "warn",
            f"{error}; runs use autograd, which is slower on the CPU",
            error.next,
        )
    else:
        yield Finding("C kernels", "ok", "compiled and loaded")


def _cache() -> Iterator[Finding]:
    from distill_core.system.units import size_text

    cache = cache_dir()
    found = f"{cache}, {size_text(_bytes_in(cache))}"
    yield _writable("cache", cache, found, "set DISTILL_CACHE to a folder that can be written")


def _bytes_in(folder: Path) -> int:
    """Count the bytes of all files in a folder, in which runs may write and delete meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(place, name).stat().st_size
    return total


def _pictures() -> Iterator[Finding]:
    from distill_core.data.half_made import halves
    from distill_core.data.picture_space import LIMIT, kept_sets, limit, pictures_dir
    from distill_core.system.units import counted, size_text

    sets = kept_sets()
    found = (
        f"{counted(len(sets), 'set')} in {pictures_dir()}, "
        f"{size_text(sum(sets.values()))} of {size_text(limit())} ({LIMIT})"
    )
    if half := halves(pictures_dir()):
        found += f"; {len(half)} half made, {size_text(sum(half.values()))}"
    yield Finding("decoded pictures", "ok", found)


def _folder() -> Iterator[Finding]:
    here = Path.cwd()
    yield _writable("run folder", here / "runs", str(here / "runs"), "use another folder, or --out")


def _writable(what: str, folder: Path, found: str, advice: str) -> Finding:
    """Try to write in a folder, or in the one where it would be made."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=place) as file:
            file.write(b"distill")
    except OSError as error:
        return Finding(what, "broken", f"{found}: {error.strerror}", advice)
    return Finding(what, "ok", found)


def _plugins() -> Iterator[Finding]:
    plugins = discover()
    names = ", ".join(provider.entry_point for provider in plugins.providers)
    if names:
        yield Finding("plugins", "ok", names)
    else:
        yield Finding("plugins", "broken", "none", "reinstall distill: pip install -e .")
    for failure in [*plugins.failures, *collect_presets(plugins).failures]:
        package = failure.provider.distribution
        advice = f"`distill plugins --traceback` shows where; fix it or `pip uninstall {package}`"
        reason = failure.reason.splitlines()[0]
        yield Finding(f"plugin {failure.provider.entry_point}", "warn", reason, advice)


def _speed() -> Iterator[Finding]:
    """Time training steps of a small convolution on noise."""
    import torch
    from torch.nn import functional

    from distill_core.contracts.streams import seeded
    from distill_core.system.devices import pick_device

    device = pick_device("auto")
    generator = seeded(0, "doctor")
    images = torch.randn(64, 16, 32, 32, generator=generator).to(device)
    weight = torch.randn(16, 16, 3, 3, generator=generator).to(device).requires_grad_()
    steps, begin = 0, time.monotonic()
    while (spent := time.monotonic() - begin) < SPEED_SECONDS:
        loss = functional.conv2d(images, weight, padding=1).relu().mean()
        (gradient,) = torch.autograd.grad(loss, weight)
        float(gradient.sum())  # waits for the device
        steps += 1
    yield Finding(
        "speed", "ok", f"{steps / spent:.0f} steps a second (3x3, 16 channels, 64 images)"
    )

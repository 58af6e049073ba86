"""Compile the C blocks on first use, keep the library in the cache, and load it.

The library is specific to processor, source and compiler: its name in the cache has a digest of all
three. `library.py` says which one may be loaded. Without a compiler there is no library, and
distill differentiates by autograd.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from distill_core.engine.kernels.library import find, put, remove_left, safe_folder
from distill_core.system.cached_tensors import made_anew

LOG = logging.getLogger("distill")
SOURCES = (
    "blocks.c",
    "blocks.h",
    "first.h",
    "winograd.h",
    "winograd_transforms.h",
    "winograd_products.h",
)
MAX_THREADS = 256
_TIMEOUT_SECONDS = 300
_COMMON = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
# The first set that the compiler accepts is used; every compiler accepts the last.
_FLAGS = (
    ("-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-fopenmp",),
    (),
)


class Unavailable(Exception):
    """The kernels cannot be used here.

    Args:
        why: one sentence; the message.
        next: what would fix it.
    """

    def __init__(self, why: str, *, next: str) -> None:
        super().__init__(why)
        self.next = next


_OTHER_COMPILER = "name another C compiler in the environment variable CC"


def library() -> ctypes.CDLL:
    """Return the loaded library; compile it if it is not in the cache.

    Raises:
        Unavailable: there is no compiler, it rejects the source, or the environment variable
            DISTILL_KERNELS is "off".
    """
    found = outcome()
    if isinstance(found, Unavailable):
        raise Unavailable(str(found), next=found.next)
    return found


@functools.cache
def outcome() -> ctypes.CDLL | Unavailable:
    """Return the library, or why there is none; cached, because compiling takes seconds."""
    try:
        return _load()
    except Unavailable as error:
        return error


def _load() -> ctypes.CDLL:
    if os.environ.get("DISTILL_KERNELS") == "off":
        raise Unavailable("DISTILL_KERNELS is off", next="unset DISTILL_KERNELS")
    compiler = _compiler()
    key, reasons = _key(compiler), list[str]()
    try:
        with safe_folder() as folder:
            remove_left(folder)
            found = find(folder, key, made_anew)
            if found is None:
                _compile(compiler, folder, key)
                found = find(folder, key, lambda _, why: reasons.append(why))
    except OSError as error:
        why = f"the compiled blocks cannot be kept in the cache: {error}"
        advice = "set DISTILL_CACHE to a folder that can be written"
        raise Unavailable(why, next=advice) from error
    if found is None:
        why = f"the compiled blocks {reasons[0] if reasons else 'are gone'}"
        raise Unavailable(why, next=_OTHER_COMPILER)
    return found


def _compiler() -> list[str]:
    """The words of the compiler's command; CC may name a wrapper too, as in "ccache gcc"."""
    named = shlex.split(os.environ.get("CC", ""))
    for name, *words in ([named] if named else []) + [["cc"], ["gcc"], ["clang"]]:
        if found := shutil.which(name):
            return [found, *words]
    why = "there is no C compiler (cc, gcc, clang or $CC)"
    raise Unavailable(why, next="install one, for example gcc")


def _key(compiler: list[str]) -> str:
    """A digest of what the library is made from: source, compiler and processor."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    version = _run([*compiler, "--version"]).stdout
    for part in (version, _processor(), str(_FLAGS + _COMMON)):
        digest.update(part.encode())
    return digest.hexdigest()[:32]


def _processor() -> str:
    """A text that differs between processors that need different code."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    told = ("flags", "model name", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(told)}))


def _compile(compiler: list[str], folder: Path, key: str) -> None:
    """Compile in a folder of its own, then move: no half-written file is ever loaded."""
    source = Path(__file__).parent / SOURCES[0]
    if sys.stderr.isatty():  # somebody waits for it, and may wonder
        LOG.warning("kernels  compiling for this processor, once: about 15 seconds")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / "blocks.so"
        for flags in _FLAGS:
            result = _run([*compiler, *_COMMON, *flags, str(source), "-o", str(made), "-lm"])
            if result.returncode == 0:
                put(made, folder, key)
                return
    reason = (result.stderr.strip().splitlines() or ["no message"])[0]
    words = " ".join(compiler)
    raise Unavailable(f"{words} does not compile the blocks: {reason}", next=_OTHER_COMPILER)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{command[0]} cannot be run: {error}", next=_OTHER_COMPILER) from error


Argument = int | ctypes.c_float | ctypes.c_double | torch.Tensor | None


def call(name: str, dtype: torch.dtype, *arguments: Argument) -> None:
    """Call the C function for a dtype, on as many threads as PyTorch uses.

    Args:
        name: of the function, without the dtype.
        dtype: of its arrays.
        arguments: what follows the number of threads; tensors must be dense, None is NULL.

    Raises:
        MemoryError: there is not enough memory for its scratch.
        ValueError: a tensor is not dense.
    """
    function = getattr(library(), f"{name}_{str(dtype).removeprefix('torch.')}")
    threads = min(torch.get_num_threads(), MAX_THREADS)
    if function(threads, *map(_pointer, arguments)):
        raise MemoryError(f"no memory for the scratch of {name}")


def _pointer(value: Argument) -> object:
    if not isinstance(value, torch.Tensor):
        return value
    if not value.is_contiguous():
        raise ValueError("the C functions need dense tensors")
    return ctypes.c_void_p(value.data_ptr())

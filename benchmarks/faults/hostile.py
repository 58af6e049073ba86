"""Hostile input: every reader of distill against thousands of damaged and crafted files.

    python benchmarks/faults/hostile.py --inputs 10000
    python benchmarks/faults/hostile.py --inputs 500 --only "class grid, JSON" --keep found

An input is a damaged or crafted file, or a directory in which something else lies under the name of
a file: a link, a pipe, a device, a giant of holes. It passes if it is read, or refused with an
explanation, within 5 seconds of the processor, 30 on the clock and 1 GiB, and if nothing is written
outside its folder, no program started, no connection made and nothing unpickled.
Batches of inputs run in forked children, whose time, memory and actions are watched.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from attacks import mutations
from reader import Reader
from readers import readers

from registry import ExplainedError

SECONDS, WAITING, BYTES, BATCH = 5, 30, 2**30, 50
FORBIDDEN = {
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect",
    "pickle.find_class", "os.symlink", "ctypes.dlopen",
}  # fmt: skip
FOLDER_AT = {"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.rename": 2}  # open folders
WRITES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.move")


@dataclass(frozen=True)
class Finding:
    """An input that did not pass.

    Attributes:
        reader: what read it.
        seed: seed of its batch, and its place in it.
        what: what happened.
    """

    reader: str
    seed: tuple[int, int]
    what: str


class Watch:
    """Notes what Python does that reading must not do: an audit hook, which cannot be taken off."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in FORBIDDEN and not (event == "ctypes.dlopen" and arguments == (None,)):
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in WRITES and _writes(event, arguments):
            path = _reached(event, arguments)
            if not f"{path}/".startswith((f"{self.folder}/", "/dev/null")):
                self.seen.append(f"{event} {path}")


def _reached(event: str, arguments: tuple[Any, ...]) -> str:
    """Return the path of what an event acts on; links at its end are followed by `open` alone."""
    path = os.fsdecode(arguments[0])
    folder_at = FOLDER_AT.get(event)
    if folder_at and arguments[folder_at] != -1:
        path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[folder_at]}"), path)
    flags = arguments[2] if event == "open" else None
    if event == "open" and not (flags or 0) & os.O_NOFOLLOW:
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _writes(event: str, arguments: tuple[Any, ...]) -> bool:
    path, *rest = arguments
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    if event != "open":
        return True
    mode, flags = (*rest, None, None)[:2]
    return any(c in (mode or "") for c in "wax+") or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))


class Hangs(BaseException):
    """Reading took too long; no `except Exception` catches it."""


def _too_long(*_: Any) -> None:
    raise Hangs


def one(reader: Reader, data: bytes, place: Path, watch: Watch) -> str:
    """Read one input; return what was wrong, or nothing, or "refused"."""
    place.mkdir()
    reader.put(data, place)
    watch.folder, watch.seen = place, []
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader.read(data, place)
        outcome = ""
    except ExplainedError:
        outcome = "refused"
    except Hangs:
        outcome = f"took too long: {_where()}"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error!s:.120} ({_where()})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        watch.folder = None
    shutil.rmtree(place, ignore_errors=True)
    return "; ".join([*watch.seen, *([outcome] if outcome != "refused" or not watch.seen else [])])


def _where() -> str:
    frames = traceback.extract_tb(sys.exc_info()[2])
    ours = [f for f in frames if "distill_core" in f.filename or "podd_plugin" in f.filename]
    return ", ".join(f"{Path(f.filename).name}:{f.lineno}" for f in (ours or frames)[-2:])


def batch(reader: Reader, seed: int, count: int, folder: Path, send: Any) -> None:
    """In a child: read `count` inputs, and send what was wrong with each."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGPROF, _too_long)
    os.chdir(folder)
    watch = Watch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, data in enumerate(islice(mutations(reader.good, reader.kind, seed), count)):
        send.send((number, one(reader, data, folder / f"{number}", watch)))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if grown > BYTES:
            send.send((number, f"took {grown / 2**20:.0f} MiB"))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    send.send(None)


def attack(
    reader: Reader, seed: int, count: int, folder: Path
) -> tuple[Counter[str], list[Finding]]:
    """Run a batch in a child, and count; a child that dies or stands still is a finding."""
    receive, send = multiprocessing.Pipe(duplex=False)
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    child = os.fork()
    if child == 0:
        status = 1
        try:
            batch(reader, seed, count, folder, send)
            status = 0
        finally:
            os._exit(status)
    send.close()
    last = -1
    while True:
        if not receive.poll(2 * WAITING):
            os.kill(child, signal.SIGKILL)
            findings.append(Finding(reader.name, (seed, last + 1), "stood still, was killed"))
            break
        try:
            message = receive.recv()
        except EOFError:
            findings.append(Finding(reader.name, (seed, last + 1), "ended the process"))
            break
        if message is None:
            break
        last, outcome = message
        counts["inputs"] += 1
        if outcome in {"", "refused"}:
            counts[outcome or "read"] += 1
        else:
            findings.append(Finding(reader.name, (seed, last), outcome))
    os.waitpid(child, 0)
    return counts, findings


def keep(folder: Path, reader: Reader, finding: Finding) -> None:
    """Write an input that did not pass into a folder."""
    seed, at = finding.seed
    data = next(islice(mutations(reader.good, reader.kind, seed), at, None))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{reader.name} {seed} {at}").write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="names of readers")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that did not pass")
    args = parser.parse_args()
    logging.getLogger("distill").setLevel(logging.CRITICAL)  # a cache that is made anew says so
    begin, total, found = time.monotonic(), Counter[str](), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        every = readers(folder / "seed")
        if unknown := set(args.only or ()) - {each.name for each in every}:
            parser.error(f"no reader is called {', '.join(sorted(unknown))}")
        chosen = [each for each in every if not args.only or each.name in args.only]
        for reader in chosen:
            reader_counts, started = Counter[str](), time.monotonic()
            each = -(-args.inputs // len(chosen))
            for number in range(-(-each // BATCH)):
                place = folder / f"{reader.name} {number}".replace(" ", "-").replace(",", "")
                place.mkdir()
                seed = args.seed + number
                count = min(BATCH, each - number * BATCH)
                counts, findings = attack(reader, seed, count, place)
                reader_counts += counts
                found += findings
                for finding in findings:
                    print(json.dumps(finding.__dict__), flush=True)
                    if args.keep:
                        keep(args.keep, reader, finding)
                shutil.rmtree(place, ignore_errors=True)
            took = f"{time.monotonic() - started:.0f} s"
            print(f"{reader.name:34}", dict(reader_counts), took, flush=True)
            total += reader_counts
    print(f"{dict(total)}, {len(found)} did not pass, {time.monotonic() - begin:.0f} s")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()

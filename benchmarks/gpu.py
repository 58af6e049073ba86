"""Everything that is to be measured on a CUDA device, in one command; on a CPU with tiny sizes.

    python benchmarks/gpu.py --out results --budget 9                  # all parts
    python benchmarks/gpu.py steps exactness --out results --budget 5  # some of them
    python benchmarks/gpu.py runs --out results --budget 9 --data cifar10.tar.xz -o run.tf32=true

It can be stopped at any moment, and is called again to go on: `gpu.json` in the folder of results
is replaced whole after every cell, finished parts are not measured again by the same code on the
same card (`--again` does), and an unfinished one keeps its cells. Every part has a process of its
own, which ends with this one. Needed are PyTorch 2.11 or later and what gpu-requirements.txt names;
no installation, no network. What a part is about stands at the top of its file, gpu_PART.py.

Exit status 0: all that was asked for is there; 3: something is left, call again.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

sys.path[:0] = [str(Path(__file__).parents[1])]

from gpu_book import BOOK, Book  # noqa: E402
from gpu_follow import Child, Ending, follow  # noqa: E402
from gpu_machine import HERE, digest, environment, sources  # noqa: E402

LEFT = 3
CLOSING = 5.0  # seconds to write and print at the end
LOG = "gpu.log"


@dataclass(frozen=True)
class Part:
    """How long a part may take, at published sizes.

    Attributes:
        least: seconds without which it is not begun.
        most: seconds after which it is ended.
        each: seconds after which a single cell of it is given up.
    """

    least: float
    most: float
    each: float = 90.0


PARTS = {  # in the order in which they are measured
    "ceilings": Part(15, 90),
    "smoke": Part(30, 150),
    "exactness": Part(30, 180),
    "steps": Part(45, 300, 120),
    "memory": Part(20, 120),
    "deterministic": Part(15, 90),
    "networks": Part(30, 120, 100),
    "runs": Part(150, 36_000, 36_000),
}
TINY = Part(2, 120, 60)


def limits(part: str, form: str) -> Part:
    """Return how long a part may take."""
    return PARTS[part] if form == "published" else TINY


def allotted(part: str, form: str, left: float) -> float | str:
    """Return the seconds that a part gets of those that are left, or why it gets none.

    >>> allotted("ceilings", "published", 40.0), allotted("ceilings", "published", 500.0)
    (40.0, 90)
    >>> allotted("steps", "published", 40.0)
    'skipped: 40 s are left, and it needs at least 45 s'
    """
    its = limits(part, form)
    if left < its.least:
        return f"skipped: {max(left, 0):.0f} s are left, and it needs at least {its.least:.0f} s"
    return min(left, its.most)


class Session:
    """One call of the script.

    Args:
        args: of the command line.
        out: folder of results.
        deadline: when all must have ended, by `time.monotonic`.
    """

    def __init__(self, args: argparse.Namespace, out: Path, deadline: float) -> None:
        self.args, self.out, self.deadline = args, out, deadline
        self.work = (args.work or Path(tempfile.gettempdir(), "distill-gpu")).absolute()
        self.book = Book.open(out)
        self.environment = environment(self.work / "site")
        self.environment.setdefault("DISTILL_CACHE", str(self.work / "cache"))
        self.device, self.about = self._about()
        self.form = args.form or ("published" if self.device.startswith("cuda") else "tiny")

    def measure(self, part: str) -> bool:
        """Measure a part, unless it is there; return whether nothing of it is missing."""
        made = self.made(part)
        # Runs have no end: each call goes on with them.
        again = self.args.again or part == "runs"
        if not again and self.book.finished(part, made):
            say(f"{part}: there already")
            return True
        seconds = allotted(part, self.form, self.deadline - time.monotonic())
        if isinstance(seconds, str):
            say(f"{part}: {seconds}")
            self.book.skip(part, made, seconds)
            return False
        say(f"{part}: at most {seconds:.0f} s")
        begin = time.monotonic()
        kept = self.book.begin(part, made, again=again)
        try:
            ending = self._follow(part, kept, seconds)
        except BaseException:  # it is being stopped: what was measured stays unfinished
            self.book.end(part, done=False, seconds=time.monotonic() - begin, said="stopped")
            raise
        self.book.end(part, done=ending.done, seconds=time.monotonic() - begin, said=ending.said)
        say(f"{part}: {ending.said or 'done'}, {time.monotonic() - begin:.0f} s")
        return ending.done

    def made(self, part: str) -> dict[str, Any]:
        """Return what results of a part depend on, and what else is to be known of them."""
        # What the device can do does not depend on the library.
        own = [HERE / f"gpu_{name}.py" for name in ("ceilings", "setting", "sizes")]
        code = digest(own if part == "ceilings" else sources())
        return {**self.about, "device": self.device, "form": self.form, "sources": code}

    def _follow(self, part: str, kept: list[str], seconds: float) -> Ending:
        until = time.monotonic() + seconds

        def start(known: list[str]) -> Child:
            return self._child(
                part=part,
                device=self.device,
                form=self.form,
                end=time.time() + until - time.monotonic(),
                data=[str(path.absolute()) for path in self.args.data],
                out=str(self.out.absolute()),
                work=str(self.work),
                options=self.args.options,
                chosen=self.args.chosen,
                kept=known,
            )

        return follow(
            start,
            lambda cell, found: self.book.add(part, cell, found),
            kept=kept,
            until=until,
            each=limits(part, self.form).each,
            say=say,
        )

    def _child(self, **asked: Any) -> Child:
        return Child(asked, self.environment, self.out / LOG)

    def _about(self) -> tuple[str, dict[str, Any]]:
        child = self._child(about=True, device=self.args.device)
        try:
            line = child.line(120.0)
        except TimeoutError:
            line = None
        finally:
            child.kill()
        if line is None:
            log = (self.out / LOG).read_text(encoding="utf-8").strip().splitlines()
            sys.exit(f"PyTorch does not work here: {log[-1] if log else 'it says nothing'}")
        return line["device"], line["found"]


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def stop(number: int, frame: object) -> NoReturn:
    """Let a signal end the program in order."""
    del frame
    sys.exit(128 + number)


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--budget", type=float, default=9.0, help="minutes in all [default: 9]")
    parser.add_argument("--device", help="cuda or cpu [default: cuda where there is one]")
    parser.add_argument("--form", choices=("published", "tiny"), help="sizes [cpu: tiny]")
    parser.add_argument("--again", action="store_true", help="measure finished parts again, too")
    parser.add_argument("--work", type=Path, help="folder of what can be made again [a temporary]")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        help="runs: cifar10.tar.xz; again for more",
    )
    parser.add_argument(
        "-o", dest="options", action="append", default=[], help="runs: option of distill run"
    )
    parser.add_argument(
        "--run", dest="chosen", action="append", default=[], help="runs: the name of one"
    )
    args = parser.parse_args(words)
    if unknown := [part for part in args.parts if part not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return args


def main(words: list[str] | None = None) -> int:
    """Measure what is asked for; return the exit status."""
    deadline = time.monotonic() - CLOSING
    args = parsed(words)
    deadline += 60 * args.budget
    signal.signal(signal.SIGTERM, stop)
    session = Session(args, args.out, deadline)
    done = [session.measure(part) for part in PARTS if part in (args.parts or PARTS)]
    say("\n" + session.book.markdown())
    say(f"\nwritten: {args.out / BOOK}")
    return 0 if all(done) else LEFT


if __name__ == "__main__":
    sys.exit(main())

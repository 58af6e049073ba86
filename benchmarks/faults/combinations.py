"""Every representation with every stored type, algorithm and budget, from the run to its exports.

    python benchmarks/faults/combinations.py
    python benchmarks/faults/combinations.py --only "types: gsdd" --keep found

A combination is a run of two outer steps on three classes of 8x8 images. It passes if the second
step gives the same bytes when it is made again from the checkpoint after the first; if
`distill_core.load` gives the images and labels of the run, from stored numbers alone too; if the
tensors of those are as many bytes as are counted; if `verify` and decoding agree; and if every
export is written and read back. Or it is refused with one of the sentences of `REFUSALS` in
`whole_run.py`. A budget in bytes passes if no size that fits takes much more of it, as counting
up finds, or if none fits and that is said. What does not pass is listed, one line each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from byte_budget import check_bytes
from combination import PLUGINS, TINY, Case, cases
from whole_run import Wrong, check_run

from distill_core.config.run_config import resolve
from distill_core.config.settings import merge
from registry import ExplainedError


def outcome(case: Case, folder: Path) -> tuple[str, str]:
    """Return a word, and what is to be seen where it did not pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            config = resolve(merge(TINY, case.settings), PLUGINS)
            if config.budget_bytes is not None:
                return check_bytes(config), ""
            return check_run(config, folder, exports=case.exports), ""
        except (Wrong, ExplainedError) as wrong:
            return "FAILED", " ".join(str(wrong).split())[:400]
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            return "FAILED", f"{type(error).__name__}: {error!s:.300} ({where})"


def main() -> int:
    """Try all; print what did not pass, and counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="those with these words, as 'types: gsdd'")
    parser.add_argument("--keep", type=Path, help="folder for the files of those that do not pass")
    args = parser.parse_args()
    if not any(args.only in case.name for case in cases()):
        parser.error(f"no combination has the words {args.only!r}")
    os.fsync = lambda descriptor: None  # no power is cut here
    counts: Counter[str] = Counter()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        os.environ["DISTILL_CACHE"] = str(Path(place, "cache"))
        for number, case in enumerate(cases()):
            if args.only not in case.name:
                continue
            folder = Path(place, str(number))
            word, seen = outcome(case, folder)
            counts[f"{case.name.partition(':')[0]} {word}"] += 1
            if seen:
                print(f"{case.name}  {seen}", flush=True)
                if args.keep:
                    shutil.copytree(folder, args.keep / case.name.replace(": ", "-"))
            shutil.rmtree(folder, ignore_errors=True)
    print(", ".join(f"{count} {word}" for word, count in sorted(counts.items())))
    print(f"{sum(counts.values())} combinations in {time.monotonic() - begin:.0f} s")
    return int(any("FAILED" in word for word in counts))


if __name__ == "__main__":
    sys.exit(main())

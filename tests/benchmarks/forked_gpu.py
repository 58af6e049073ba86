"""benchmarks/gpu.py in a forked process, which forks the processes of its parts, too.

Python, PyTorch and distill are imported already; all else is as in processes that are started.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def main(words: list[str], pids: Path) -> None:
    """Be the script; the numbers of the processes that it starts go into a file, one a line."""
    sys.path.insert(0, str(BENCHMARKS))
    import gpu
    import gpu_follow

    class Forked:
        """Stands for `subprocess.Popen`: a fork in a session of its own."""

        def __init__(
            self,
            words: list[str],
            *,
            env: Mapping[str, str],
            stderr: IO[str],
            start_new_session: bool,
            **pipes: Any,
        ) -> None:
            assert words == [sys.executable, str(gpu_follow.CHILD)]
            assert start_new_session
            (asked, asks), (told, tells) = os.pipe(), os.pipe()
            self._code: int | None = None
            self.pid = os.fork()
            if not self.pid:
                for ours in (asks, told):
                    os.close(ours)
                _be_part(asked, tells, stderr.fileno(), env)
            with pids.open("a") as file:
                file.write(f"{self.pid}\n")
            for theirs in (asked, tells):
                os.close(theirs)
            self.stdin, self.stdout = os.fdopen(asks, "w"), os.fdopen(told)

        def wait(self) -> int:
            if self._code is None:
                self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            return self._code

    # Of that file alone: what else is started is started.
    gpu_follow.subprocess = SimpleNamespace(Popen=Forked, PIPE=subprocess.PIPE)  # type: ignore[assignment]
    sys.exit(gpu.main(words))


def _be_part(asked: int, tells: int, errors: int, environment: Mapping[str, str]) -> None:
    """Do what the file that is started for a part does, and end."""
    code = 1
    try:
        os.setsid()
        for there, here in ((asked, 0), (tells, 1), (errors, 2)):
            os.dup2(there, here)
        for there in (asked, tells):
            os.close(there)
        os.environ.clear()
        os.environ.update(environment)
        sys.stdin = os.fdopen(0)
        import gpu_child

        gpu_child.main()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)

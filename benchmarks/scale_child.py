"""A part of benchmarks/scale.py in a process of its own, of one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def asked(script: str, said: Mapping[str, Any], cache: Path) -> Any:
    """Run a script with JSON for its argument, and return the JSON of its last line.

    Args:
        script: path of the script.
        said: its argument.
        cache: where it keeps prepared images.
    """
    done = subprocess.run(
        [sys.executable, script, json.dumps(said)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "DISTILL_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])

"""benchmarks/gpu.py measures everything on a CPU with tiny sizes, and goes on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.system.arithmetic import convolution_precision, set_arithmetic
from tests.benchmarks import forked_gpu
from tests.caches import make_cache
from tests.distill_core.cli.small_args import distill
from tests.distill_core.small_run import small_config
from tests.forks import Fork

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def words_of(out: Path, *words: str) -> list[str]:
    work = out.parent / "work"
    if not work.exists():
        make_cache(work / "cache")
    return ["--device", "cpu", "--out", str(out), "--work", str(work), "--budget", "5", *words]


def command(out: Path, *words: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *words_of(out, *words)]


def started(out: Path, *words: str) -> Fork:
    """Fork the script, which forks its parts; `pids_of` a folder tells their numbers."""
    (out.parent / "printed" / "stdout").unlink(missing_ok=True)
    return Fork(forked_gpu.main, words_of(out, *words), pids_of(out), folder=out.parent / "printed")


def pids_of(out: Path) -> Path:
    return out.parent / "pids"


def wait_for(process: Fork, out: Path, start: str) -> None:
    """Wait for a line among those that are printed."""
    printed, limit = out.parent / "printed" / "stdout", time.monotonic() + 120
    while not (printed.exists() and f"\n{start}" in f"\n{printed.read_text()}"):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.02)


def wait_for_the_end_of_parts(out: Path) -> None:
    """Also when nobody ends them: they do, soon."""
    limit = time.monotonic() + 20
    for pid in pids_of(out).read_text().split():
        while _runs(pid):
            assert time.monotonic() < limit
            time.sleep(0.02)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text() != ""  # "" of one that is not waited for
    except OSError:
        return False


def log(out: Path) -> str:
    return (out / "gpu.log").read_text() if (out / "gpu.log").exists() else ""


def book(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "gpu.json").read_text())["parts"]
    return found


class Inside:
    """Stands for the process of a part: it answers when it is asked, and starts nothing."""

    def __init__(self, asked: Mapping[str, Any], environment: Mapping[str, str], log: Path) -> None:
        from gpu_child import answers

        self._answers = answers(asked)

    def line(self, seconds: float) -> dict[str, Any] | None:
        return next(self._answers, None)

    def kill(self) -> None:
        self._answers.close()


Call = Callable[..., str]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Return what a call prints that leaves nothing undone; parts are measured in this process."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu
    import gpu_runs

    def follow(words: Sequence[str], job: Any, until: float) -> int:
        assert words[:3] == [sys.executable, "-m", "distill_core"]
        return distill(*words[3:]).exit_code

    def call(out: Path, *words: str) -> str:
        monkeypatch.setenv("DISTILL_CACHE", str(out.parent / "work" / "cache"))
        status = gpu.main(words_of(out, *words))
        printed = capsys.readouterr()
        assert status == 0, (printed, log(out))
        return printed.out

    monkeypatch.setattr(gpu, "Child", Inside)
    monkeypatch.setattr(gpu_runs, "follow", follow)
    before, precision = signal.getsignal(signal.SIGTERM), convolution_precision()
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as in a process of its own
        yield call
    signal.signal(signal.SIGTERM, before)
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
    set_arithmetic(small_config())
    for name in [name for name in sys.modules if name.partition("_")[0] == "gpu"]:
        sys.modules.pop(name)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("DISTILL_CACHE", raising=False)


def test_every_part_runs_whole_on_a_cpu(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = call(out)
    parts = book(out)
    assert list(parts) == [
        "ceilings", "smoke", "exactness", "steps", "memory", "deterministic", "networks", "runs",
    ]  # fmt: skip
    for name, record in parts.items():
        assert record["done"], name
        assert record["cells"], name
        failed = {cell: f["failed"] for cell, f in record["cells"].items() if "failed" in f}
        assert not failed, (failed, log(out))
        assert f"## {name}" in printed
    assert printed.rstrip().endswith(f"written: {out / 'gpu.json'}")
    assert (out / "gpu.md").read_text().strip() in printed
    assert "inner step" in (out / "profile.txt").read_text()
    # The gradients that parts compare are those of one problem, by several paths.
    smoke = parts["smoke"]["cells"]
    assert all(found["equal"] is True and found["resumed apart"] == 0 for found in smoke.values())
    assert {"ratbptt", "mtt", "frepo", "dm"} <= set(smoke)
    exact = parts["exactness"]["cells"]
    assert 0 < exact["autograd, fp32"]["pixels, relative error"] < 1e-4
    assert parts["deterministic"]["cells"]["autograd, deterministic"]["equal bits"] is True
    # A run goes on where it was, also where only the packed results are.
    before = parts["runs"]["cells"]["shapes"]
    assert before["networks"] == 2
    assert len(os.listdir(out)) <= 8  # so many files come back from a lent machine
    moved = tmp_path / "elsewhere" / "out"
    moved.parent.mkdir()
    out.rename(moved)
    call(moved, "runs")
    assert book(moved)["runs"]["cells"]["shapes"]["outer steps"] > before["outer steps"]


def test_what_is_finished_survives_a_kill_and_a_signal_and_the_rest_goes_on(
    call: Call, tmp_path: Path
) -> None:
    """Parts have processes of their own, which end with the one that waits for them."""
    out = tmp_path / "out"
    process = started(out, "ceilings", "exactness")
    wait_for(process, out, "  autograd, fp32:")  # a cell of the second part
    process.kill()
    process.communicate()
    wait_for_the_end_of_parts(out)
    killed = book(out)
    assert killed["ceilings"]["done"]
    kept = killed["exactness"]["cells"]
    assert not killed["exactness"]["done"]
    assert kept
    process = started(out, "ceilings", "exactness")
    wait_for(process, out, "  ")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    stopped = book(out)
    assert stopped["exactness"]["said"] == "stopped"
    assert not stopped["exactness"]["done"]
    wait_for_the_end_of_parts(out)
    printed = call(out, "ceilings", "exactness")
    assert "ceilings: there already" in printed
    assert not [line for line in printed.splitlines() if line.startswith("  autograd, fp32: 1 +")]
    parts = book(out)
    assert parts["ceilings"] == stopped["ceilings"] == killed["ceilings"]
    assert parts["exactness"]["done"]
    for earlier in (kept, stopped["exactness"]["cells"]):
        assert {name: parts["exactness"]["cells"][name] for name in earlier} == earlier


def test_a_part_is_a_process_with_a_session_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from gpu_follow import Child

    child = Child({"about": True, "device": "cpu"}, dict(os.environ), tmp_path / "log")
    with child._process as process:
        try:
            assert os.getsid(process.pid) == process.pid
            line = child.line(120)
            assert line is not None, (tmp_path / "log").read_text()
            assert line["device"] == "cpu"
            assert child.line(60) is None
        finally:
            child.kill()
    sys.modules.pop("gpu_follow")


def test_a_mistake_is_explained(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, "ceiling"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no part ceiling; there are ceilings, smoke" in done.stderr

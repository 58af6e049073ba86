"""The Triton kernels: right, by Triton's interpreter; and compiled for a GPU, without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.engine.kernels.blocks import EPSILON
from distill_core.engine.kernels.fused import agrees
from distill_core.engine.kernels.torch_functions import PLAIN, Functions

pytest.importorskip("triton")
ROOT = Path(__file__).parents[4]
BOUNDS = {"torch.float64": 1e-12, "torch.float32": 1e-4, "torch.bfloat16": 2e-2}


def test_the_kernels_are_right_in_every_type() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "tests.distill_core.engine.kernels.interpreted"],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout.splitlines()[-1])
    errors = report["errors"]
    assert len(errors) == (5 + 1 + 1) * 6 + 3
    wrong = [(dtype, what, error) for dtype, what, error in errors if not error < BOUNDS[dtype]]
    assert not wrong
    assert report["tried"] == [True, True]  # what a run tries before it takes them


@pytest.mark.parametrize("name", Functions._fields)
def test_one_wrong_function_fails_the_trial(name: str) -> None:
    cpu = torch.device("cpu")
    assert agrees(PLAIN, cpu, torch.bfloat16)

    def wrong(*given: Any) -> tuple[Any, ...]:
        *found, last = getattr(PLAIN, name)(*given)
        return (*found, last + 0.1)

    assert not agrees(PLAIN._replace(**{name: wrong}), cpu, torch.float32)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("forward", torch.float32),
        ("backward", torch.float32),
        ("tangent_forward", torch.float32),
        ("tangent_backward", torch.float32),
        ("tangent_backward", torch.bfloat16),
    ],
)
def test_they_compile_for_hopper_and_hold_all_in_registers(
    name: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the published setting; and every access to a plane is of 16 bytes."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    made = compiled(name, dtype, (32, 32, 128))
    usage = resources(made.asm["cubin"], tmp_path)
    assert usage["STACK"] == usage["LOCAL"] == 0
    # Two programs of 256 threads share a multiprocessor's 65,536 in float32, where one has it in
    # bfloat16: Triton 3.7.1 gives that 169, 3.9 182.
    assert usage["REG"] <= (128 if dtype == torch.float32 else 182)
    stores = [line for line in made.asm["ptx"].splitlines() if "st.global" in line]
    assert sum(".v4" in line for line in stores) == {
        "forward": 1, "backward": 4, "tangent_forward": 2, "tangent_backward": 8,
    }[name]  # fmt: skip


def compiled(name: str, dtype: torch.dtype, plane: tuple[int, int, int]) -> Any:
    """A kernel for planes (h, w, C), by Triton's compiler."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from distill_core.engine.kernels import triton_kernels
    from distill_core.engine.kernels.triton_functions import COMPILER, settings

    kernel = getattr(triton_kernels, name)
    constants = {**settings(torch.empty(1, *plane, dtype=dtype, device="meta")), "EPS": EPSILON}
    warps = constants.pop("num_warps")
    names = dict(enumerate(kernel.arg_names))
    stored = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}[dtype]
    planes = {"z", "tz", "a", "ta", "p", "q", "P", "Q"}
    source = ASTSource(
        kernel,
        {n: "constexpr" if n in constants else stored if n in planes else "*fp32"
         for n in names.values()},
        constexprs={(i,): constants[n] for i, n in names.items() if n in constants},
        attrs={(i,): [["tt.divisibility", 16]] for i, n in names.items() if n not in constants},
    )  # fmt: skip
    return triton.compile(
        source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps, **COMPILER}
    )


def resources(cubin: bytes, folder: Path) -> dict[str, int]:
    """What a kernel takes, as `cuobjdump` reads it: REG, STACK, LOCAL and more."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton has no cuobjdump")
    (folder / "kernel.cubin").write_bytes(cubin)
    told = subprocess.run(
        [tool, "-res-usage", folder / "kernel.cubin"], capture_output=True, text=True, check=True
    )
    line = next(line for line in told.stdout.splitlines() if "REG:" in line)
    pairs = (word.split(":") for word in line.split() if word[0] in "RSL" and ":" in word)
    return {key: int(value) for key, value in pairs}

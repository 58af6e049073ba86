from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from distill_core.cli.errors import FAULT, exit_code, explain
from distill_core.run.save_on_failure import how_to_lower
from distill_core.system.out_of_memory import is_out_of_memory, out_of_memory
from tests.distill_core.small_run import small_assembly

ALLOCATOR = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ALLOCATOR,
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_it_is_recognised_and_explained_wherever_it_happens(error: Exception) -> None:
    assert is_out_of_memory(error)
    found = explain(error)
    assert found.what.startswith("there is not enough memory: ")
    assert "-o data.storage=float16" in found.next
    assert exit_code(found) == FAULT


def test_a_full_card_is_told_in_numbers() -> None:
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB "
        "of which 1.05 GiB is free. Including non-PyTorch memory, this process has 78.06 GiB in "
        "use. If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF."
    )
    assert out_of_memory(error).what == (
        "there is not enough memory: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a "
        "total capacity of 79.11 GiB of which 1.05 GiB is free."
    )


@pytest.mark.parametrize(
    "error", [ValueError("out of memory"), RuntimeError("shape"), OSError(28, "")]
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_real_allocation_that_fails_is_recognised() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**56, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert len(str(out_of_memory(caught.value)).splitlines()) == 3


@pytest.mark.parametrize(
    ("algo", "engine", "said"),
    [
        ({"batch": 8, "real_batch": 16}, {}, "engine.real_chunk=8 and -o engine.microbatch=4"),
        ({"batch": 96, "real_batch": 600}, {}, "real_chunk=15 and -o engine.microbatch=5"),
        (
            {"batch": 8},
            {"real_chunk": 4, "microbatch": 2},
            "real_chunk=2 and -o engine.microbatch=1",
        ),
        ({"batch": 1}, {"real_chunk": 10}, "lower it with -o engine.real_chunk=5, or"),
        ({"batch": 8}, {"real_chunk": 1, "splits": False}, "lower it with -o algo.batch=4, or"),
        ({"batch": 1}, {"real_chunk": 1}, "choose a smaller -o backbone.width"),
        (
            {"batch": 1},
            {"real_chunk": 1, "activation_cache": 1},
            "lower it with -o engine.activation_cache=none, or",
        ),
    ],
)
def test_the_values_that_are_named_are_lower_than_what_was_used(algo, engine, said) -> None:
    """10 items and 30 training images, of which no more can be taken at a time."""
    assembly = small_assembly(options={"algo": algo})
    assert len(assembly.synthetic) == 10
    engine = {"activation_cache": 0, **engine}
    assembly = replace(assembly, engine=replace(assembly.engine, **engine))
    assert said in how_to_lower(assembly)

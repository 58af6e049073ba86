"""Trial steps on a device, and the memory that they used beyond the tensors that were counted.

On CUDA three things take memory:

- PyTorch's tensors, which predictions count one by one;
- what its allocator holds besides: scratch memory of cuDNN and cuBLAS, rounding, fragments, and the
  pools of CUDA graphs;
- the context: the driver's part of the process, with the code of all operations that were used.

The context is measured as what is taken on the card and not held by PyTorch. If another process
uses the card, its memory is counted too, and the prediction is too high.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from distill_core.contracts.algorithm import Estimate
from distill_core.system.memory import memory_in_use
from distill_core.system.process import release_memory


class MemoryTrial:
    """Runs predictions of an outer step, and measures the memory that they used besides tensors.

    Args:
        device: where the steps run.
        kept: bytes that the run will keep between its steps, and the trial does not.

    Attributes:
        scratch: bytes that PyTorch's allocator held at the peak of the last trial, beyond the
            tensors counted there; 0 if unknown, as on the CPU.
    """

    def __init__(self, device: torch.device, kept: int = 0) -> None:
        self.device = device
        self.kept = kept
        self.scratch = 0

    def run(self, estimate: Callable[[], Estimate | None]) -> Estimate | None:
        """Call `estimate`, release the memory it used, and return its prediction."""
        cuda = self.device.type == "cuda"
        if cuda:
            release_memory()
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            found = estimate()
        finally:
            release_memory()
        if cuda and found is not None:
            # Memory that PyTorch still holds, such as the pools of graphs, counts as in use.
            held = torch.cuda.max_memory_reserved(self.device)
            stays = torch.cuda.memory_reserved(self.device)
            self.scratch = max(held - stays - found.counted, 0)
        return found

    def in_use(self) -> int:
        """Return the bytes in use besides the tensors of an outer step."""
        return memory_in_use(self.device) + self.kept + self.scratch

"""distill: a dataset-distillation toolkit with plugins at its heart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill_core.api import distill
    from distill_core.artefact.artefact import load

__all__ = ["__version__", "distill", "load"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    # `import distill_core` must not import torch.
    if name == "load":
        from distill_core.artefact.artefact import load

        return load
    if name == "distill":
        from distill_core.api import distill

        return distill
    raise AttributeError(f"module 'distill_core' has no attribute '{name}'")

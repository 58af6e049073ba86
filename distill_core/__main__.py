"""`python -m distill_core`, the same as `distill`; torchrun needs a module."""

from __future__ import annotations

from distill_core.cli import main

if __name__ == "__main__":
    main()

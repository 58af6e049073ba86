"""What a conformance check says about a component with a fault."""

from __future__ import annotations

from typing import Any

import pytest


def fault(check: Any, make: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        check(make, name="x")
    return str(caught.value)

"""What a budget in bytes buys, against counting up."""

from __future__ import annotations

from math import prod

from combination import PLUGINS
from whole_run import Wrong

from distill_core.artefact.count_storage import storage_of
from distill_core.config.run_config import RunConfig
from distill_core.contracts.components import Representation
from distill_core.contracts.data import DataSpec
from distill_core.contracts.whitening import Whitening
from distill_core.data.placeholder import outline_of
from distill_core.run.plan import Plan
from distill_core.run.sizing import sized
from registry import InputError

ENOUGH = 0.95  # of what fits: a poster of whole blocks may get smaller where its budget grows
WHOLE, STEPS = 40, 80  # sizes that are tried: whole numbers, and others, each 8 % larger


def check_bytes(config: RunConfig) -> str:
    """Compare what a budget in bytes buys with what counting up finds; return as `check_run` does.

    Raises:
        Wrong: what was chosen is larger than the budget, or something much larger fits.
    """
    plan, limit = Plan.of(config, PLUGINS), config.budget_bytes
    spec = outline_of(plan.make("dataset"))
    assert limit is not None
    assert spec is not None
    most = limit / (4 * spec.num_classes * prod(spec.image_shape)) * 20
    sizes = [*range(1, min(WHOLE, int(most)) + 1), *(most * 1.08**-k for k in range(STEPS))]
    counted = [_counted(plan, spec, ipc) for ipc in sizes]
    fitting = max((each for each in counted if each is not None and each <= limit), default=None)
    try:
        found = _bytes(plan, spec, sized(plan, spec))
    except InputError as refusal:
        if fitting is not None:
            raise Wrong(f"{fitting} bytes fit, and it is refused: {refusal}") from refusal
        if "do not fit" not in refusal.what or not refusal.next:
            raise Wrong(f"refused: {refusal}") from refusal
        return "refused"
    if found > limit:
        raise Wrong(f"it takes {found} bytes")
    if fitting is not None and found < ENOUGH * fitting:
        raise Wrong(f"it takes {found} bytes, and {fitting} fit")
    return "passed"


def _counted(plan: Plan, spec: DataSpec, ipc: float) -> int | None:
    """Return the bytes at a size; None where the representation or the labeler refuses it."""
    try:
        return _bytes(plan, spec, plan.representation(spec, ipc))
    except InputError:
        return None


def _bytes(plan: Plan, spec: DataSpec, representation: Representation) -> int:
    return storage_of(plan.synthetic(spec, representation), Whitening("none")).bytes

"""What is measured of a device's memory; a card's numbers are made up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill_core.commands.preview import memory_line
from distill_core.contracts.algorithm import Estimate
from distill_core.engine.memory_trial import MemoryTrial
from distill_core.run.loop import OuterLoop
from distill_core.run.within_memory import kept_between_steps
from distill_core.system.memory import context_memory, memory_in_use, peak_memory, tensors_in
from distill_core.system.process import release_memory
from tests.distill_core.fake_card import GIB, FakeCard, fake_card
from tests.distill_core.small_run import small_assembly

MIB = 2**20
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def estimate(memory: int, trial: int | None = None) -> Estimate:
    return Estimate(seconds=1.0, memory=memory, measured="made up", trial=trial)


def busy_card(monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    """80 GiB, of which PyTorch holds 3 GiB, 2 of them for tensors, and the context takes 0.5."""
    return fake_card(
        monkeypatch,
        total=80 * GIB,
        free=80 * GIB - 3 * GIB - 512 * MIB,
        reserved=3 * GIB,
        allocated=2 * GIB,
        peak_reserved=8 * GIB,
    )


def test_memory_in_use_counts_what_is_made() -> None:
    release_memory()  # what earlier tests freed could be taken again
    before = memory_in_use(CPU)
    kept = torch.ones(2**24)
    assert memory_in_use(CPU) - before > 0.9 * kept.nbytes


def test_all_that_is_taken_on_a_card_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    busy_card(monkeypatch)
    assert context_memory(CUDA) == 512 * MIB
    assert memory_in_use(CUDA) == 3 * GIB + 512 * MIB
    assert peak_memory(CUDA) == 8 * GIB + 512 * MIB
    assert context_memory(CPU) == 0


@pytest.mark.parametrize(
    ("found", "scratch"),
    [
        (estimate(20 * GIB, trial=4 * GIB), GIB),  # 8 held: 3 that stay, 4 counted, 1 besides
        (estimate(4 * GIB), GIB),  # nothing was extrapolated
        (estimate(20 * GIB), 0),  # what was extrapolated is not known
        (None, 0),
    ],
)
def test_what_a_trial_took_beside_its_tensors_is_added(
    found: Estimate | None, scratch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = busy_card(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    trial = MemoryTrial(CUDA)
    assert trial.run(lambda: found) is found
    assert trial.scratch == scratch
    assert trial.in_use() == memory_in_use(CUDA) + scratch
    # Before, so that nothing old counts; after, so that nothing of the trial does.
    assert card.emptied == 2


def test_a_trial_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    card = busy_card(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)

    def fail() -> Estimate:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        MemoryTrial(CUDA).run(fail)
    assert card.emptied == 2


def test_on_the_cpu_the_process_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, found = MemoryTrial(CPU), estimate(5 * MIB, trial=MIB)
    assert trial.run(lambda: found) is found
    assert trial.scratch == 0
    monkeypatch.setattr("distill_core.engine.memory_trial.memory_in_use", lambda _: 3 * MIB)
    monkeypatch.setattr("distill_core.commands.preview.memory_in_use", lambda _: 3 * MIB)
    assert memory_line(trial, found) == (
        "3 MiB in use between steps, 8 MiB predicted at the peak of an outer step"
    )


def test_what_the_run_will_keep_is_in_use_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill_core.engine.memory_trial.memory_in_use", lambda _: 3 * MIB)
    monkeypatch.setattr("distill_core.commands.preview.memory_in_use", lambda _: 3 * MIB)
    trial = MemoryTrial(CPU, 2 * MIB)
    assert trial.in_use() == 5 * MIB
    assert memory_line(trial, estimate(4 * MIB)) == (
        "5 MiB in use between steps, 9 MiB predicted at the peak of an outer step"
    )


@pytest.mark.parametrize(
    ("ema", "select", "divergence"),
    [(None, "last", "stop"), (0.9, "best", "stop"), (0.9, "best", "halve-lr")],
)
def test_what_a_run_keeps_is_what_was_counted(
    ema: float | None, select: str, divergence: str, tmp_path: Path
) -> None:
    """Bytes of the images and labels in all that the outer loop holds after some steps."""
    evaluate = {"every": 1, "select": select}
    changes = {"steps": 45, "ema": ema, "evaluate": evaluate, "on_divergence": divergence}
    assembly = small_assembly(**changes)
    counted = kept_between_steps(assembly.config, assembly.synthetic, averages=ema is not None)
    loop = OuterLoop(assembly, tmp_path, validate=lambda: [0.5])
    loop.run()
    stored = {name: tensor.shape for name, tensor in assembly.synthetic.state_dict().items()}
    state = loop.state_dict()
    state["synthetic"] = {}
    rest = [each for each in tensors_in(state) if each.shape in stored.values()]
    assert counted == sum(tensor.nbytes for tensor in rest)


def test_a_dry_run_says_what_takes_a_cards_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    busy_card(monkeypatch)
    trial, found = MemoryTrial(CUDA), estimate(20 * GIB, trial=4 * GIB)
    trial.run(lambda: found)
    assert memory_line(trial, found) == (
        "3.50 GiB in use between steps (512 MiB of it the CUDA context), 24.50 GiB predicted at "
        "the peak of an outer step (1.00 GiB of it scratch), of 80.00 GiB on the card"
    )
    assert memory_line(trial, estimate(90 * GIB)).endswith(
        "of 80.00 GiB on the card: too much, see --max-memory"
    )

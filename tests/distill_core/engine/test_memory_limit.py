"""Fewer images at a time until the prediction fits; budgets are counts, not of the machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distill_core.builtin.backbones.convnet import ConvNet, ConvNetOptions
from distill_core.contracts.algorithm import Estimate
from distill_core.contracts.data import DataSpec
from distill_core.contracts.streams import Streams
from distill_core.engine.engine import Engine, mixes_images
from distill_core.engine.memory_limit import candidates, stay_within
from distill_core.system.memory import PeakBytes
from distill_core.system.out_of_memory import OutOfMemory
from registry import InputError
from tests.distill_core.small_run import small_assembly

BATCH, MIB = 96, 2**20


def predict(engine: Engine) -> Estimate:
    """1 MiB for every image at a time, and 10 MiB; 100 steps could retain 7 MiB each."""
    images = min(engine.microbatch or BATCH, BATCH)
    most = max(images, min(engine.real_chunk, engine.microbatch or engine.real_chunk))
    retained = min(100, engine.activation_cache // MIB // 7) * 7
    return Estimate(
        seconds=1.0,
        memory=(most + 10 + retained) * MIB,
        measured="made up",
        retained=retained * MIB,
    )


def fitted(limit: str, engine: Engine | None = None, *, largest: int | None = BATCH) -> Engine:
    return stay_within(
        engine or Engine(), limit, in_use=lambda: 100 * MIB, predict=predict, largest=largest
    )


@pytest.mark.parametrize(
    ("limit", "microbatch", "real_chunk"),
    [
        ("360MiB", None, 250),
        ("359MiB", None, 100),
        ("206MiB", None, 50),  # 96 of the inner batch are the most
        ("205MiB", 48, 25),
        ("122MiB", 12, 25),
        ("111MiB", 1, 25),
    ],
)
def test_the_first_that_fits(limit: str, microbatch: int | None, real_chunk: int) -> None:
    chosen = fitted(limit)
    assert (chosen.microbatch, chosen.real_chunk) == (microbatch, real_chunk)
    assert chosen.describe().endswith(f"MiB predicted of {limit}")


@pytest.mark.parametrize(
    ("limit", "cache", "told"),
    [
        ("2GiB", 1024, "1.04 GiB predicted of 2GiB, 700 MiB of it retained"),
        ("1059MiB", 256, "612 MiB predicted of 1059MiB, 252 MiB of it retained"),
        ("611MiB", 64, "423 MiB predicted of 611MiB, 63 MiB of it retained"),
        ("422MiB", 0, "360 MiB predicted of 422MiB"),
    ],
)
def test_as_much_is_retained_as_fits(limit: str, cache: int, told: str) -> None:
    chosen = fitted(limit)
    assert chosen.activation_cache == cache * MIB
    assert chosen.real_chunk == 250
    assert chosen.describe().endswith(f"; {told}")


def small_device(most: int) -> Callable[[Engine], Estimate]:
    """Trials that run out of memory themselves with more images at a time than `most`."""

    def attempt(engine: Engine) -> Estimate:
        if (engine.microbatch or BATCH) > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return predict(engine)

    return attempt


def test_a_trial_that_runs_out_of_memory_does_not_fit() -> None:
    chosen = stay_within(
        Engine(), "4GiB", in_use=lambda: 0, predict=small_device(24), largest=BATCH, caches=[]
    )
    assert chosen.microbatch == 24
    with pytest.raises(OutOfMemory, match="not even one with 1 images and 25 real images") as error:
        stay_within(
            Engine(), "4GiB", in_use=lambda: 0, predict=small_device(0), largest=BATCH, caches=[]
        )
    assert "data.storage=float16" in error.value.next


def test_other_errors_of_a_trial_are_no_question_of_memory() -> None:
    def fail(engine: Engine) -> Estimate:
        raise RuntimeError("the plugin's own mistake")

    with pytest.raises(RuntimeError, match="own mistake"):
        stay_within(Engine(), "4GiB", in_use=lambda: 0, predict=fail, largest=BATCH)


def test_no_more_is_retained_than_was_asked_for() -> None:
    for caches, cache in (([70 * MIB], 70), ([0], 0), ([], 0)):
        chosen = stay_within(
            Engine(activation_cache=1),
            "4GiB",
            in_use=lambda: 0,
            predict=predict,
            largest=BATCH,
            caches=caches,
        )
        assert chosen.activation_cache == cache * MIB


def test_what_was_asked_for_is_never_exceeded() -> None:
    tried = list(candidates(Engine(microbatch=10, real_chunk=70), 96))
    assert [(e.microbatch, e.real_chunk) for e in tried] == [
        (10, 70),
        (10, 50),
        (10, 25),
        (6, 25),
        (3, 25),
        (1, 25),
    ]


def test_nothing_fits() -> None:
    with pytest.raises(InputError) as caught:
        fitted("110MiB")
    assert caught.value.what == (
        "no way to stay within engine.max_memory = 110MiB was found: 100 MiB are in use between "
        "steps, and the least for a whole run is 111 MiB, with 1 images and 25 real images at a "
        "time."
    )
    assert caught.value.expected == "at least 111 MiB."
    assert "algo.window" in (caught.value.next or "")


def test_batches_that_must_stay_whole_are_not_split() -> None:
    spec = DataSpec("made", ("a", "b"), (3, 8, 8), ())
    assert mixes_images(ConvNet(ConvNetOptions(width=4, norm="batch"), spec=spec))
    assert not mixes_images(ConvNet(ConvNetOptions(width=4), spec=spec))
    assert fitted("400MiB", largest=None).microbatch is None
    with pytest.raises(InputError, match="least for a whole run is 360 MiB"):
        fitted("300MiB", largest=None)


def test_an_algorithm_without_a_prediction() -> None:
    with pytest.raises(InputError, match="does not predict its memory"):
        stay_within(Engine(), "1GiB", in_use=lambda: 0, predict=lambda _: None, largest=1)


@pytest.mark.parametrize("path", ["kernels", "autograd"])
def test_a_run_within_its_limit(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of tensors, with nothing else in the process: the step keeps to what was allowed."""
    monkeypatch.setattr("distill_core.engine.memory_trial.memory_in_use", lambda _: 0)
    dataset = {"train_per_class": 40}
    sizes = {"options": {"algo": {"real_batch": 200}, "dataset": dataset, "backbone": {"width": 8}}}
    free = small_assembly(engine={"path": path}, **sizes)
    whole = free.algorithm.estimate(free.synthetic, rng=Streams(0))
    assert whole is not None
    limit = f"{0.7 * whole.memory / 1024:.3f}KiB"
    bound = small_assembly(engine={"path": path, "max_memory": limit}, **sizes)
    assert bound.engine.real_chunk < 200
    assert bound.engine.memory
    with PeakBytes() as memory:
        bound.algorithm.outer_step(bound.synthetic, step=0, rng=Streams(0))
    assert memory.peak <= 1.25 * 0.7 * whole.memory

"""Budgets in bytes: nothing larger fits, and nothing is read where nothing fits."""

from __future__ import annotations

from contextlib import nullcontext
from math import prod

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distill_core.artefact.count_storage import storage_of
from distill_core.run.assemble import assemble
from distill_core.run.plan import Plan
from distill_core.run.sizing import Measure, check_bytes, largest_ipc
from distill_core.run.within_memory import check_budget_fits
from distill_core.testing.small import small_data
from registry import InputError, OptionError
from tests.distill_core.small_run import installed, small_assembly, small_config

PIXELS = 6 * prod((3, 8, 8))  # of one image per class of the small run


@given(st.integers(1, 5000), st.integers(1, 400), st.integers(0, 200), st.sampled_from([1, 4, 16]))
@example(2304, 1176, 144, 4)  # of 8 bits: one fits where none of float32 would
def test_the_largest_number_of_whole_images_is_found(
    limit: int, each: int, more: int, smaller: int
) -> None:
    """Against counting up; labels and others cost `more`, float32 images `smaller` times more."""

    def measure(ipc: float) -> int:
        if ipc < 1 or ipc != int(ipc):
            raise InputError("no", expected="whole numbers.", next="round.")
        return more + each * int(ipc)

    fitting = [n for n in range(1, 5001) if measure(n) <= limit]
    if fitting:
        assert largest_ipc(limit, measure, smaller * each) == fitting[-1]
    else:
        with pytest.raises(InputError, match="bytes would fit"):
            largest_ipc(limit, measure, smaller * each)


@pytest.mark.parametrize("each", [1, 7, 100, 10**6])
def test_no_size_is_measured_twice(each: int) -> None:
    measured = []

    def measure(ipc: float) -> int:
        measured.append(ipc)
        return int(each * ipc)

    largest_ipc(1000, measure, 100)
    assert len(measured) == len(set(measured))


def test_no_number_of_whole_images_is_measured_twice() -> None:
    measured = []

    def measure(ipc: float) -> int:
        if ipc < 1 or ipc != int(ipc):
            raise InputError("no", expected="whole numbers.", next="round.")
        measured.append(ipc)
        return 120 * int(ipc)

    assert largest_ipc(430, measure, 100) == 3  # 84 % of it: others nearby are tried
    assert len(measured) == len(set(measured))


def test_bytes_that_fall_where_the_budget_grows_are_no_trap() -> None:
    """As of a poster of 2x4 patches on Gaussians, three classes of 8x8: 416 fit, not just 384."""
    taken = [(0.05, 224), (0.065, 256), (0.085, 288), (0.115, 352), (0.135, 416), (0.145, 384)]
    largest = 480

    def measure(ipc: float) -> int:
        return next((bytes_ for end, bytes_ in reversed(taken) if 0.165 > ipc >= end), largest)

    assert measure(largest_ipc(438, measure, 4 * PIXELS // 2)) == 416


@given(st.integers(10, 10**6), st.integers(0, 9))
def test_a_budget_of_any_size_is_filled(limit: int, more: int) -> None:
    found = largest_ipc(limit, lambda ipc: more + int(100 * ipc), 100)
    assert limit - 1 <= more + int(100 * found) <= limit


@pytest.mark.parametrize(
    ("choice", "labeler", "options"),
    [
        ("poster", "poddl", {"patches": "2x5"}),
        ("poster", "soft", {}),
        ("images", "soft", {"patches": None}),
        ("fred", "onehot", {"patches": None}),
    ],
)
def test_every_representation_keeps_to_the_bytes(
    choice: str, labeler: str, options: dict[str, str | None]
) -> None:
    limit = 2 * 4 * PIXELS
    config = small_config(ipc=None, budget_bytes=limit)
    kept = config.model_copy(
        update={
            "repr": choice,
            "labeler": labeler,
            "options": {
                **config.options,
                "repr": installed()["representation"].check(
                    choice, {name: each for name, each in options.items() if each}
                ),
                "labeler": installed()["labeler"].check(labeler, {}),
            },
        }
    )
    assembly = assemble(kept, installed())
    used = storage_of(assembly.synthetic, assembly.real.whitening).bytes
    assert 0.49 * limit < used <= limit
    with pytest.raises(InputError, match="do not fit"):
        check_bytes(storage_of(assembly.synthetic, assembly.real.whitening), used - 1)


@pytest.mark.parametrize("stored", ["bfloat16", "uint8", "uint2"])
def test_numbers_in_fewer_bits_fill_the_bytes_too(stored: str) -> None:
    limit = 4 * PIXELS
    assembly = small_assembly(
        ipc=None, budget_bytes=limit, options={"repr": {"stored": stored, "patches": "2x5"}}
    )
    used = storage_of(assembly.synthetic, assembly.real.whitening).bytes
    assert 0.8 * limit < used <= limit


def test_what_cannot_fit_is_refused_with_what_would() -> None:
    with pytest.raises(InputError, match=r"do not fit in 100 bytes; about [0-9,]+ bytes would"):
        small_assembly(ipc=None, budget_bytes="100")


@given(st.integers(1, 655))
def test_what_would_fit_is_the_same_for_every_budget_that_is_near(limit: int) -> None:
    """Not more for a larger one: 656 bytes buy the smallest, and a number takes four."""

    def measure(ipc: float) -> int:
        if 4 * PIXELS * ipc < 100:
            raise InputError("too small", expected="more.", next="raise it.")
        return 556 + int(4 * PIXELS * ipc)

    with pytest.raises(InputError) as refused:
        largest_ipc(limit, measure, 4 * PIXELS)
    said = int(refused.value.next.split()[3].rstrip(","))
    assert 656 <= said <= 656 + 25  # sizes are tried in steps of a quarter


def test_a_size_that_no_budget_changes_is_said_to_be_fixed() -> None:
    with pytest.raises(InputError, match="about 4,000 bytes") as caught:
        largest_ipc(1000, lambda ipc: 4000, 300)
    assert "unset the option of --repr that fixes its size" in caught.value.next
    with pytest.raises(InputError) as caught:
        largest_ipc(1000, lambda ipc: 4000 + int(300 * ipc), 300)
    assert "choose a smaller --repr" in caught.value.next


@pytest.mark.parametrize(
    ("choice", "options", "reason"),
    [
        ("images", {"downsample": 3}, "8x8 pixels cannot be stored at 1/3"),
        ("speed", {"patch": 5}, "8x8 pixels cannot be tiled with patches of 5"),
        ("poster", {"classes": "2x4"}, "2x4 has more places than the 6 classes"),
    ],
)
def test_what_no_budget_buys_is_refused_with_its_own_reason(
    choice: str, options: dict[str, str], reason: str
) -> None:
    labeler = "poddl" if choice == "poster" else "soft"
    config = small_config(ipc=None, budget_bytes="9KiB", labeler=labeler)
    checked = installed()["representation"].check(choice, options)
    changes = {"repr": choice, "options": {**config.options, "repr": checked}}
    with pytest.raises(InputError, match=reason) as caught:
        assemble(config.model_copy(update=changes), installed())
    assert f"-o repr.{next(iter(options))}" in caught.value.next


def test_what_is_dearer_by_the_budget_is_refused_at_the_budget_asked_for() -> None:
    """Not at the largest that was tried, which says nothing to who asked for 1,000 bytes."""

    def measure(ipc: float) -> int:
        raise InputError(f"{ipc:g} is too few", expected="more.", next="raise it.")

    with pytest.raises(InputError, match=r"^2\.5 is too few"):
        largest_ipc(1000, measure, 400)


def test_a_run_looks_for_its_size_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the rehearsal and the run itself need it, where the dataset tells its shape."""
    found: list[float] = []

    def search(limit: int, measure: Measure, image: int) -> float:
        found.append(largest_ipc(limit, measure, image))
        return found[-1]

    monkeypatch.setattr("distill_core.run.sizing.largest_ipc", search)
    assembly = small_assembly(ipc=None, budget_bytes=9000)
    assert found == [assembly.made_with["ipc"]]


def test_two_budgets_are_refused() -> None:
    with pytest.raises(OptionError, match=r"run\.ipc = 0\.8 and run\.budget_bytes = 30720"):
        small_config(budget_bytes="30KiB")


@pytest.mark.parametrize("wrong", ["30", "-1", "30 bytes", "many", "0"])
def test_amounts_without_a_meaning(wrong: str) -> None:
    if wrong == "30":
        assert small_config(ipc=None, budget_bytes=wrong).budget_bytes == 30
    else:
        with pytest.raises(OptionError, match=r"run\.budget_bytes") as caught:
            small_config(ipc=None, budget_bytes=wrong)
        assert caught.value.expected.endswith("or a whole number of bytes.")
        assert "-o run.budget_bytes=30KiB" in caught.value.next


@pytest.mark.parametrize(
    ("stored", "labels", "fits"),
    [("float32", "float32", True), ("float32", "uint2", True), ("uint8", "float32", False)],
)
def test_numbers_in_fewer_bits_need_as_much_memory_each(
    stored: str, labels: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers are trained in float32: in 8 bits there are four times as many."""
    pages = {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr("distill_core.run.within_memory.os.sysconf", pages.__getitem__)
    options = {"repr": {"stored": stored, "patches": "2x5"}, "labeler": {"stored": labels}}
    config = small_config(ipc=None, budget_bytes=200_000, options=options)
    with nullcontext() if fits else pytest.raises(InputError, match=r"needs 0\.0032 GB"):
        check_budget_fits(Plan.of(config, installed()), small_data(6).spec)


@pytest.mark.parametrize(("choice", "fits"), [("images", True), ("fred", False)])
def test_more_decoded_images_than_memory_holds_are_refused(
    choice: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many numbers fit of both; those of one make 16 times as many images."""
    pages = {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr("distill_core.run.within_memory.os.sysconf", pages.__getitem__)
    reason = r"4,794 training images of 3x8x8 numbers need 0\.011 GB"
    with nullcontext() if fits else pytest.raises(InputError, match=reason):
        small_assembly(repr=choice, labeler="onehot", algo="dm", ipc=50)

from __future__ import annotations

import io

import pytest
from rich.console import Console

from distill_core.run.progress import ConsoleProgress, describe, predicted_course
from distill_core.system.units import duration


def metrics(seconds: float = 2.0) -> dict[str, float]:
    return {"loss": 1.25, "grad_norm": 0.5, "seconds": seconds}


def show(steps: int, count: int, *, terminal: bool = False, **settings: object) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120)
    first = int(settings.get("step", 0))  # type: ignore[call-overload]
    with ConsoleProgress(console, steps=steps, **settings) as progress:  # type: ignore[arg-type]
        for step in range(first + 1, first + count + 1):
            progress.after_step(step, metrics())
    return file.getvalue()


def test_plain_lines_for_the_first_and_the_last_step():
    lines = show(3, 3).splitlines()
    assert lines == [
        "step 1/3  loss 1.2500  hypergradient 0.5  2.00 s/step  4 s left",
        "step 3/3  loss 1.2500  hypergradient 0.5  2.00 s/step  0 s left",
    ]


def test_time_left_of_a_resumed_run_and_of_a_time_limit():
    assert show(100, 1, step=40).splitlines()[0].endswith("1 min 58 s left")
    assert show(100, 1, minutes=0.1).splitlines()[0].endswith("4 s left")
    assert show(100, 1, minutes=0.01).splitlines()[0].endswith("0 s left")


def test_a_run_that_its_time_ends_counts_to_the_steps_that_there_is_time_for():
    """Two seconds a step: a minute is for thirty of them, and a step that has begun is finished."""
    assert show(1000, 1, minutes=1.0).startswith("step 1/~30 ")
    assert show(1000, 1, minutes=59 / 60).startswith("step 1/~30 ")
    assert show(1000, 1, minutes=1.0, step=40).startswith("step 41/~70 ")
    assert show(20, 1, minutes=1.0).startswith("step 1/20 ")
    assert "30/30" in show(1000, 30, minutes=1.0, terminal=True)


def test_time_spent_before_going_back_is_gone():
    file = io.StringIO()
    progress = ConsoleProgress(Console(file=file, width=100), steps=1000, minutes=1.0)
    for step in range(1, 11):
        progress.after_step(step, metrics())  # 20 of 60 seconds
    progress.after_going_back(4, "because")
    progress.after_step(5, metrics())
    assert file.getvalue().splitlines()[-2:] == [
        "back to step 4/1,000: because",
        "step 5/~24  loss 1.2500  hypergradient 0.5  2.00 s/step  38 s left",
    ]


def test_a_bar_on_a_terminal():
    text = show(3, 3, terminal=True)
    assert "3/3" in text
    assert "loss 1.2500" in text


def test_validation_is_always_shown():
    file = io.StringIO()
    ConsoleProgress(Console(file=file, width=100), steps=9).after_validation(4, [0.25, 0.262])
    assert file.getvalue() == "step 4/9  validation accuracy 25.6 %\n"


def test_an_algorithm_without_a_norm():
    assert describe({"loss": 2.0, "seconds": 0.5}) == "loss 2.0000  0.50 s/step"


@pytest.mark.parametrize(
    ("seconds", "text"), [(3, "3 s"), (59.4, "59 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("minutes", "said"),
    [
        (None, "120 steps: 1 min 00 s"),
        (2, "120 steps: 1 min 00 s"),
        (0.5, "about 60 steps in 30 s"),
        (0.01, "about 1 step in 1 s"),
    ],
)
def test_a_course_ends_with_the_steps_or_with_the_time(minutes, said):
    assert predicted_course(120, minutes, seconds=0.5) == said

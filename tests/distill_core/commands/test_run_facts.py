from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from distill_core.commands.run_facts import print_facts
from distill_core.run.manifest import manifest
from tests.distill_core.small_run import installed, small_assembly

LINE = "labels   labeler.mode=fixed, since algorithm 'dm' learns no labels"
NOTE = "files with other endings than a picture's are not read: 2 .heic, 1 [b].txt."


def test_notes_on_the_data_are_printed_and_recorded() -> None:
    assembly = small_assembly()
    noted = replace(assembly, real=replace(assembly.real, notes=(NOTE,)))
    text = StringIO()
    print_facts(Console(file=text, width=200), noted, 1)
    assert f"data     {NOTE}" in text.getvalue().splitlines()
    assert manifest(noted, installed(), step=0, seconds=0.0)["data_notes"] == [NOTE]


@pytest.mark.parametrize("algorithm", ["dm", "ratbptt"])
def test_labels_that_an_algorithm_fixes_are_told_in_one_line(algorithm: str) -> None:
    text = StringIO()
    print_facts(Console(file=text, width=200), small_assembly(algo=algorithm), 1)
    assert (LINE in text.getvalue().splitlines()) == (algorithm == "dm")


def test_what_is_stored_and_what_is_decoded_are_told_apart() -> None:
    plain, smaller = small_assembly(), small_assembly(options={"repr": {"downsample": 2}})
    lines = []
    for assembly in (plain, smaller):
        text = StringIO()
        print_facts(Console(file=text, width=200), assembly, 1)
        lines.append(next(x for x in text.getvalue().splitlines() if x.startswith("pixels")))
    assert "stored" not in lines[0]
    assert "stored numbers, decoded to" in lines[1]
    assert f"pixels   {sum(p.numel() for p in smaller.synthetic.groups()['data']):,} " in lines[1]


def test_one_canvas_is_alone_and_two_are_not() -> None:
    poster, images = small_assembly(), small_assembly(repr="images", ipc=1)
    lines = []
    for assembly in (poster, images):
        text = StringIO()
        print_facts(Console(file=text, width=200), assembly, 1)
        lines.append(next(x for x in text.getvalue().splitlines() if x.startswith("pixels")))
    assert lines[0].startswith("pixels   1 canvas of ")
    assert lines[1].startswith("pixels   6 canvases of 8x8, 6 training images of 8x8")

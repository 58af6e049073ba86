"""The collage: real images on a poster, judged as they are; the baseline of a learned poster."""

from __future__ import annotations

from pathlib import Path

import torch

from distill_core.run.loop import OuterLoop
from tests.distill_core.small_run import small_assembly


def collage(patches: str, ipc: float) -> OuterLoop:
    assembly = small_assembly(
        algo="none",
        ipc=ipc,
        orderer="identity",
        labeler="poddl",
        options={"repr": {"init": "real", "patches": patches}},
    )
    return OuterLoop(assembly, Path())


def test_where_cells_are_images_it_is_one_real_image_of_each_class() -> None:
    loop = collage("2x3", 1.0)
    images, labels = (part.detach() for part in loop.assembly.synthetic.all())
    real = loop.assembly.real.train
    assert loop.assembly.steps == 0
    for image, label in zip(images, labels, strict=True):
        members = real.take((real.labels == label.argmax()).nonzero().flatten())
        assert float(label.max()) == 1
        assert bool((members == image).flatten(1).all(1).any())


def test_a_smaller_one_is_saved_as_it_started(tmp_path: Path) -> None:
    loop = collage("2x5", 0.8)
    loop.run_dir = tmp_path
    before = {name: each.clone() for name, each in loop.assembly.synthetic.state_dict().items()}
    assert loop.run()
    assert loop.assembly.synthetic.budget().ipc <= 0.8
    after = loop.result.synthetic.state_dict()
    assert all(torch.equal(after[name], each) for name, each in before.items())

from __future__ import annotations

import pytest
import torch

from distill_core.artefact.artefact import load
from distill_core.artefact.count_storage import storage_of
from distill_core.evaluation.judge import judge, table
from distill_core.run.manifest import manifest
from distill_core.run.validation import (
    candidate_of,
    check_validation,
    compared_bytes,
    evaluator_of,
    validation_accuracies,
)
from registry import InputError
from tests.distill_core.small_run import installed, save_artefact, small_assembly


def test_a_candidate_is_what_the_assembly_holds():
    assembly = small_assembly()
    candidate = candidate_of(assembly, step=3)
    batch = assembly.synthetic.all()
    assert torch.equal(candidate.batch.images, batch.images)
    assert not candidate.batch.images.requires_grad
    assert candidate.ipc == assembly.synthetic.budget().ipc
    assert candidate.step == 3


def test_the_verdict_is_measured_on_the_test_split():
    assembly = small_assembly()
    candidate = candidate_of(assembly)
    results = judge(candidate, evaluator_of(assembly), assembly.config.evaluate)
    assert list(results) == ["distilled", "random", "full"]
    by_hand = evaluator_of(assembly).evaluate(
        candidate.batch,
        candidate.training_recipe(assembly.config.evaluate),
        nets=2,
        split=assembly.real.test,
    )
    assert results["distilled"].accuracies == by_hand.accuracies
    assert len(results["random"].accuracies) == 2
    assert len(results["full"].accuracies) == 1


@pytest.mark.parametrize(
    ("more", "by_bytes"),
    [
        ({}, False),
        ({"options": {"repr": {"stored": "uint8"}}}, True),
        ({"options": {"repr": {"downsample": 2}}}, True),
        ({"ipc": None, "budget_bytes": 5000, "options": {"repr": {"patches": "2x5"}}}, True),
    ],
)
def test_what_is_not_float32_pixels_is_compared_by_bytes_too(more, by_bytes, tmp_path):
    assembly = small_assembly(evaluate={"nets": 1, "steps": 1, "full_steps": 1}, **more)
    storage = storage_of(assembly.synthetic, assembly.real.whitening)
    candidate = candidate_of(assembly)
    assert candidate.bytes == (storage.bytes if by_bytes else None)
    results = judge(candidate, evaluator_of(assembly), assembly.config.evaluate)
    assert ("random_bytes" in results) == by_bytes
    record, recipe = manifest(assembly, installed(), step=0, seconds=0), assembly.algorithm.recipe()
    save_artefact(tmp_path, assembly.synthetic, real=assembly.real, recipe=recipe, manifest=record)
    again = load(tmp_path)
    found = compared_bytes(assembly.config, again.storage, is_pixels=again.is_pixels)
    assert found == candidate.bytes


def test_controls_can_be_left_out():
    assembly = small_assembly(evaluate={"controls": False, "nets": 1})
    results = judge(candidate_of(assembly), evaluator_of(assembly), assembly.config.evaluate)
    assert list(results) == ["distilled"]
    assert "1 network)" in table(results)


def test_validation_never_sees_the_test_split():
    assembly = small_assembly()
    before = validation_accuracies(assembly)
    assembly.real.test.images.fill_(float("nan"))
    assert validation_accuracies(assembly) == before


def test_validation_without_images_is_refused_before_work():
    check_validation(small_assembly())
    with pytest.raises(InputError, match="validation split is empty"):
        check_validation(small_assembly(data={"validation": 1e-9}, evaluate={"every": 1}))


def test_the_table_names_every_column():
    assembly = small_assembly()
    results = judge(candidate_of(assembly), evaluator_of(assembly), assembly.config.evaluate)
    lines = table(results).splitlines()
    assert lines[0] == "accuracy on the test set"
    assert [line.split("  ")[1] for line in lines[1:]] == [
        "distilled",
        "random real images",
        "full training set",
    ]
    assert "2 networks" in lines[1]

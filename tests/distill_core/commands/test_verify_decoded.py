"""Images of an artefact against what its parameters decode to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from distill_core.artefact.artefact import file_sha256, load
from distill_core.artefact.contents import DISTILLED, STORED
from distill_core.commands.verify_decoded import check_decoded
from distill_core.config.discovery import discover
from distill_core.config.run_config import to_toml
from distill_core.config.settings import parse_settings
from distill_core.run.directory import settings_of
from distill_core.run.manifest import manifest
from distill_core.system.files import read_tensors, write_tensors
from tests.distill_core.artefact.test_stored import stored_run
from tests.distill_core.small_run import installed, save_artefact

DECODED = Path(__file__).parents[2] / "fixtures" / "run-decoded"


def saved(folder: Path, stored: str, representation: str, **options: Any) -> dict[str, Any]:
    """Write an artefact; return the settings of its run."""
    made = stored_run(stored, representation, **options)
    record = manifest(made, installed(), step=0, seconds=0)
    recipe = made.algorithm.recipe()
    save_artefact(folder, made.synthetic, real=made.real, recipe=recipe, manifest=record)
    return parse_settings(to_toml(made.config).encode(), folder)


@pytest.mark.parametrize(
    ("representation", "options"),
    [("poster", {}), ("coreset", {}), ("images", {})],
)
def test_images_are_what_the_parameters_decode_to(
    representation: str, options: dict[str, Any], tmp_path: Path
) -> None:
    settings = saved(tmp_path, "float32", representation, **options)
    check = check_decoded(tmp_path, settings, installed())
    assert check.passed, check.found
    assert "decode to its" in check.found


def test_images_beside_the_numbers_of_a_decoder_are_what_they_decode_to() -> None:
    """Of an earlier version, with a stored type."""
    check = check_decoded(DECODED, settings_of(DECODED), installed())
    assert check.passed, check.found
    assert "decode to its 20 images" in check.found


@pytest.mark.parametrize(
    ("stored", "representation", "options", "count"),
    [
        ("float32", "basis", {"bases": 2}, 1104),
        ("uint4", "fred", {}, 0),
        ("uint4", "poster", {}, 0),
    ],
)
def test_numbers_alone_decode(
    stored: str, representation: str, options: dict[str, Any], count: int, tmp_path: Path
) -> None:
    """Two bases of 3x4x4 leave 2304 - 96 numbers for rows of two, one for each image."""
    settings = saved(tmp_path, stored, representation, **options)
    check = check_decoded(tmp_path, settings, installed())
    assert check.passed, check.found
    number = count or len(load(tmp_path).images)
    said = f"its numbers decode to {number} images and labels to train on; labels: {number} rows; "
    assert check.found.startswith(f"{said}sums within ")


def test_numbers_alone_of_a_plugin_that_is_missing_are_not_decoded(tmp_path: Path) -> None:
    settings = saved(tmp_path, "float32", "basis", bases=2)
    tensors, metadata = read_tensors(tmp_path / STORED)
    metadata["components"]["repr"]["name"] = "holograms"
    write_tensors(tmp_path / STORED, tensors, metadata)
    record = json.loads((tmp_path / "manifest.json").read_text())
    record["files"][STORED] = file_sha256(tmp_path / STORED)
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    check = check_decoded(tmp_path, settings, installed())
    assert not check.passed
    assert "decoded by representation 'holograms', which is not installed here" in check.found
    assert "Expected plugin 'builtin' of the package distill-podd" in check.found
    assert "Next: install that package if you trust it" in check.found
    assert "\n" not in check.found


def test_other_images_beside_the_parameters_are_found(tmp_path: Path) -> None:
    run = shutil.copytree(DECODED, tmp_path / "run")
    tensors, metadata = read_tensors(run / DISTILLED)
    tensors["pixels"] = tensors["pixels"] + 0.01
    write_tensors(run / DISTILLED, tensors, metadata)
    check = check_decoded(run, settings_of(run), installed())
    assert not check.passed
    assert check.found == "its parameters decode to other images; they differ by up to 1.0e-02"


def test_parameters_of_another_size_are_found() -> None:
    settings = settings_of(DECODED)
    options = settings["options"] | {"repr": settings["options"]["repr"] | {"points": 3}}
    check = check_decoded(DECODED, settings | {"options": options}, installed())
    assert not check.passed
    assert "does not decode it" in check.found


def test_without_the_plugin_it_is_said_that_nothing_was_compared(tmp_path: Path) -> None:
    settings = saved(tmp_path, "float32", "poster")
    check = check_decoded(tmp_path, settings, discover(only=["builtin"]))
    assert check.passed
    assert check.found == "not compared, since no representation named 'poster' is installed"


def test_a_version_of_the_plugin_with_other_options_is_said() -> None:
    settings = settings_of(DECODED)
    options = settings["options"] | {"repr": settings["options"]["repr"] | {"hue": 3}}
    check = check_decoded(DECODED, settings | {"options": options}, installed())
    assert check.passed
    assert check.found == "not compared, since here unknown option repr.hue."


def test_an_error_without_a_text_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise KeyError

    settings = saved(tmp_path, "float32", "poster")
    monkeypatch.setattr("distill_core.commands.verify_decoded.sized", silent)
    check = check_decoded(tmp_path, settings, installed())
    assert check.found.endswith("does not decode it: KeyError")

from __future__ import annotations

import hashlib

import numpy
import pytest
import torch

from distill_core.layout.ordering import class_features, cosine_distances
from podd_plugin import similarity
from podd_plugin.similarity import SimilarityOptions, class_distances
from registry import InputError, OptionError
from registry.options import check_options

EMBEDDINGS = numpy.array([[1.0, 0], [0, 1], [1, 1]], dtype="float16")


@pytest.fixture(autouse=True)
def _no_clip(monkeypatch):
    """No machine-wide cache decides what these tests see."""
    monkeypatch.setattr(similarity, "local_weights", lambda model: None)
    monkeypatch.setattr(similarity, "is_cached", lambda model, prompts, names: False)


@pytest.fixture
def three(make_real):
    return make_real(3, class_names=("oak_tree", "palm_tree", "ray"))


def test_image_uses_centred_class_means(three):
    found = class_distances(SimilarityOptions(similarity="image"), three)
    assert torch.equal(found.distances, cosine_distances(class_features(three)))
    assert found.source == "image"


def test_auto_without_clip_uses_images_and_says_why(three):
    found = class_distances(SimilarityOptions(), three)
    assert found.source == "image"
    assert found.reason == (
        "auto: class means of the training images; "
        "CLIP ViT-B-32-quickgelu (openai) is not on this machine"
    )


def test_auto_with_clip_uses_clip(three, monkeypatch, tmp_path):
    asked = []

    def embed(model, prompts, names):
        asked.append((prompts, names))
        return torch.from_numpy(EMBEDDINGS)

    monkeypatch.setattr(similarity, "local_weights", lambda model: tmp_path)
    monkeypatch.setattr(similarity, "name_embeddings", embed)
    found = class_distances(SimilarityOptions(prompt="a photo of a {}. | {}"), three)
    assert found.source == "clip"
    assert "a photo of a {}." in found.reason
    assert asked == [(["a photo of a {}.", "{}"], ("oak_tree", "palm_tree", "ray"))]
    assert float(found.distances[0, 1]) == pytest.approx(1)


def test_auto_prefers_a_named_file(three, tmp_path):
    file = tmp_path / "classes.npz"
    numpy.savez(file, embeddings=EMBEDDINGS)
    found = class_distances(SimilarityOptions(file=file), three)
    assert found.source == "file"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.reason == f"auto: classes.npz, SHA-256 {digest[:12]}..."
    assert float(found.distances[0, 2]) == pytest.approx(1 - 0.5**0.5)


def test_rows_of_a_file_are_found_by_name(three, tmp_path):
    file = tmp_path / "classes.npz"
    names = numpy.array(["Ray", "elm", "oak tree", "Palm-Tree"])
    numpy.savez(file, names=names, embeddings=EMBEDDINGS[[2, 2, 0, 1]])
    found = class_distances(SimilarityOptions(similarity="file", file=file), three)
    torch.testing.assert_close(found.distances, cosine_distances(torch.from_numpy(EMBEDDINGS)))


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"rows": EMBEDDINGS}, "cannot be read as class embeddings"),
        ({"embeddings": EMBEDDINGS[:2]}, r"shape \(2, 2\) for 3 names"),
        ({"embeddings": EMBEDDINGS[0]}, r"shape \(2,\) for 3 names"),
        ({"embeddings": numpy.full((3, 2), numpy.inf)}, "some of them not finite"),
        ({"embeddings": EMBEDDINGS, "names": numpy.array(["oak tree", "ray"])}, "for 2 names"),
        ({"embeddings": EMBEDDINGS, "names": numpy.zeros((3, 2))}, "'names' has shape"),
        ({"embeddings": EMBEDDINGS, "names": numpy.array(list("abc"))}, "no match for 'oak_tree'"),
        ({"embeddings": numpy.array([object()] * 3)}, "cannot be read as class embeddings"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(three, tmp_path, arrays, what):
    file = tmp_path / "classes.npz"
    numpy.savez(file, **arrays)
    with pytest.raises(InputError, match=what) as caught:
        class_distances(SimilarityOptions(similarity="file", file=file), three)
    assert str(file) in caught.value.what
    assert caught.value.next


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut short", b"text"])
def test_a_file_that_is_no_archive_is_refused(three, tmp_path, content):
    file = tmp_path / "classes.npz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"classes\.npz cannot be read as class embeddings"):
        class_distances(SimilarityOptions(similarity="file", file=file), three)


def test_a_single_array_is_no_table_of_embeddings(three, tmp_path):
    file = tmp_path / "classes.npy"
    numpy.save(file, EMBEDDINGS)
    with pytest.raises(InputError, match="cannot be read as class embeddings"):
        class_distances(SimilarityOptions(similarity="file", file=file), three)


def test_similarity_file_needs_a_file(three):
    with pytest.raises(InputError, match="similarity=file has no file"):
        class_distances(SimilarityOptions(similarity="file"), three)


@pytest.mark.parametrize("prompt", ["a photo", "{}|a photo", "{}|"])
def test_every_prompt_needs_a_place_for_the_name(prompt):
    with pytest.raises(OptionError, match=r"orderer\.prompt = .* is not valid"):
        check_options(SimilarityOptions, {"prompt": prompt}, where="orderer")


def test_a_file_in_the_home_folder(three, tmp_path, monkeypatch):
    """A shell leaves ~ as it is in `-o orderer.file=~/FILE`."""
    numpy.savez(tmp_path / "mine.npz", embeddings=EMBEDDINGS)
    monkeypatch.setenv("HOME", str(tmp_path))
    options = check_options(SimilarityOptions, {"file": "~/mine.npz"}, where="orderer")
    assert class_distances(options, three).reason.startswith("auto: mine.npz")

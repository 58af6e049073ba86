from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from distill_core.plugin import EnvironmentFault
from podd_plugin import clip_embeddings, clip_text
from podd_plugin.clip_embeddings import is_cached, name_embeddings
from podd_plugin.clip_text import ClipModel, embed_text
from podd_plugin.poco import Poco, PocoOptions
from tests.podd_plugin.test_clip_text import small_clip  # noqa: F401

NAMES = ("apple", "palm_tree")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "clip"


@pytest.fixture
def model(small_clip) -> ClipModel:  # noqa: F811
    return ClipModel("any", "any", small_clip)


def forbid_loading(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)  # an import would fail


def test_one_prompt_gives_the_embeddings_of_the_texts(model):
    found = name_embeddings(model, ["a {} here"], NAMES)
    assert torch.equal(found, embed_text(model, ["a apple here", "a palm tree here"]))


def test_several_prompts_are_averaged_at_length_one(model):
    found = name_embeddings(model, ["{}", "a {} here"], NAMES)
    plain = normalize(embed_text(model, ["apple", "palm tree"]))
    worded = normalize(embed_text(model, ["a apple here", "a palm tree here"]))
    torch.testing.assert_close(found, (plain + worded) / 2)


def test_the_second_time_nothing_is_loaded(model, monkeypatch):
    assert not is_cached(model, ["{}"], NAMES)
    first = name_embeddings(model, ["{}"], NAMES)
    forbid_loading(monkeypatch)
    assert is_cached(model, ["{}"], NAMES)
    assert torch.equal(name_embeddings(model, ["{}"], NAMES), first)
    with pytest.raises(ImportError):
        name_embeddings(model, ["a {}"], NAMES)


def test_a_second_poco_imports_no_open_clip(small_clip, make_real, monkeypatch):  # noqa: F811
    real = make_real(6)
    options = PocoOptions(pretrained=str(small_clip))
    first = Poco(options).order(real, (2, 3), generator=torch.Generator())
    forbid_loading(monkeypatch)
    again = Poco(options)
    assert torch.equal(again.order(real, (2, 3), generator=torch.Generator()), first)
    assert again.notes["similarity"] == "clip"


def test_published_weights_are_not_asked_for_again(monkeypatch):
    """Cached under the names of model and weights, so that neither network nor hub is needed."""
    published = ClipModel("ViT-B-32-quickgelu", "openai")
    monkeypatch.setattr(clip_embeddings, "embed_text", lambda model, texts: torch.eye(2))
    first = name_embeddings(published, ["{}"], NAMES)
    forbid_loading(monkeypatch)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert torch.equal(name_embeddings(published, ["{}"], NAMES), first)


def test_everything_that_matters_is_part_of_the_key(model, tmp_path, small_clip):  # noqa: F811
    name_embeddings(model, ["{}"], NAMES)
    assert not is_cached(model, ["{} "], NAMES)
    assert not is_cached(model, ["{}"], NAMES[::-1])
    assert not is_cached(model, ["{}", "{}"], NAMES[:1])
    assert not is_cached(ClipModel("any", "other"), ["{}"], NAMES)
    other = tmp_path / "other"
    other.mkdir()
    (other / clip_text.CONFIG_NAME).write_bytes((small_clip / clip_text.CONFIG_NAME).read_bytes())
    weights = (small_clip / clip_text.WEIGHTS_NAME).read_bytes()
    (other / clip_text.WEIGHTS_NAME).write_bytes(weights)
    copied = ClipModel("any", "any", other)
    assert is_cached(copied, ["{}"], NAMES)  # the content counts, not the place
    (other / clip_text.WEIGHTS_NAME).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert not is_cached(copied, ["{}"], NAMES)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "foreign"])
def test_a_damaged_file_is_recognised_and_made_anew(model, cache, damage, caplog):
    from safetensors.torch import save_file

    first = name_embeddings(model, ["{}"], NAMES)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    if damage == "foreign":
        save_file({"embeddings": torch.zeros(2, 16)}, file, metadata={"distill": json.dumps({})})
    else:
        file.write_bytes(
            {
                "empty": b"",
                "cut": whole[:-3],
                "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
                "text": b"not at all",
            }[damage]
        )
    assert not is_cached(model, ["{}"], NAMES)
    assert torch.equal(name_embeddings(model, ["{}"], NAMES), first)
    assert file.read_bytes() == whole
    assert f"cache    {file} " in caplog.text
    assert ": it is made anew" in caplog.text


def test_a_cache_that_cannot_be_written_is_said(model, tmp_path, monkeypatch):
    (tmp_path / "a_file").touch()
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "a_file"))
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        name_embeddings(model, ["{}"], NAMES)

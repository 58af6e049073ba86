from __future__ import annotations

import json
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from podd_plugin import clip_download, clip_text
from podd_plugin.clip_text import ClipModel, embed_text, local_weights
from podd_plugin.poco import Poco, PocoOptions
from registry import EnvironmentFault, InputError
from registry.options import check_options

PUBLISHED = ClipModel("ViT-B-32-quickgelu", "openai")
SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory) -> Path:
    """A CLIP model of random weights in a folder, as open_clip stores them."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.model.CLIP(**SMALL)
    config = {"model_cfg": SMALL, "preprocess_cfg": {}}
    (folder / clip_text.CONFIG_NAME).write_text(json.dumps(config))
    save_file(model.state_dict(), folder / clip_text.WEIGHTS_NAME)
    return folder


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_text_tower_of_a_folder_gives_the_model_s_own_embeddings(small_clip):
    import open_clip
    from safetensors.torch import load_file

    model = open_clip.model.CLIP(**SMALL)
    model.load_state_dict(load_file(small_clip / clip_text.WEIGHTS_NAME))
    texts = ["apple", "sweet pepper", "apple"]
    tokens = open_clip.SimpleTokenizer(context_length=16)(texts)
    with torch.no_grad():
        expected = model.eval().encode_text(tokens)
    found = embed_text(ClipModel("any", "any", small_clip), texts)
    assert found.shape == (3, 16)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found[0], found[2])
    assert not torch.allclose(found[0], found[1])


def test_global_random_state_does_not_move(small_clip):
    before = torch.get_rng_state()
    embed_text(ClipModel("any", "any", small_clip), ["apple"])
    assert torch.equal(torch.get_rng_state(), before)


def test_poco_runs_on_local_weights(small_clip, make_real):
    poco = Poco(PocoOptions(weights=small_clip))
    grid = poco.order(make_real(6), (2, 3), generator=torch.Generator())
    assert sorted(grid.reshape(-1).tolist()) == list(range(6))
    assert poco.notes["similarity"] == "clip"
    assert f"({small_clip.name})" in poco.notes["similarity_reason"]
    assert str(small_clip) not in poco.notes["similarity_reason"]


def test_weights_of_another_model_are_refused(small_clip):
    file = small_clip / clip_text.WEIGHTS_NAME
    with pytest.raises(InputError, match="do not load into CLIP model 'RN50'") as caught:
        embed_text(ClipModel("RN50", "any", file), ["apple"])
    assert "orderer.pretrained" in caught.value.next


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.pt", "empty"])
def test_weights_that_are_not_safetensors_are_refused(tmp_path, name):
    path = tmp_path / name
    if name == "empty":
        path.mkdir()
    with pytest.raises(InputError, match="no CLIP weights at") as caught:
        local_weights(ClipModel("any", "any", path))
    assert str(path) in caught.value.what


def test_a_truncated_file_is_refused(tmp_path, small_clip):
    file = tmp_path / "cut.safetensors"
    file.write_bytes((small_clip / clip_text.WEIGHTS_NAME).read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut\.safetensors do not load"):
        embed_text(ClipModel("RN50", "any", file), ["apple"])


def test_an_empty_cache_holds_nothing_and_costs_no_import(empty_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)  # an import would fail
    assert local_weights(PUBLISHED) is None


def test_weights_in_the_cache_are_found(empty_cache, monkeypatch):
    import huggingface_hub

    snapshot = empty_cache / "models--timm--vit_base_patch32_clip_224.openai" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (snapshot / clip_text.WEIGHTS_NAME).touch()
    asked = []

    def look_up(repository, file):
        asked.append((repository, file))
        return str(snapshot / file)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", look_up)
    assert local_weights(PUBLISHED) == snapshot / clip_text.WEIGHTS_NAME
    assert asked == [("timm/vit_base_patch32_clip_224.openai", clip_text.WEIGHTS_NAME)]


def test_offline_is_respected_at_once(empty_cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket, "create_connection", None)  # a call would fail
    with pytest.raises(EnvironmentFault, match="HF_HUB_OFFLINE is set") as caught:
        embed_text(PUBLISHED, ["apple"])
    for way_out in ("pretrained=PATH", "similarity=file -o orderer.file=PATH", "similarity=image"):
        assert way_out in caught.value.next


def test_no_network_is_found_out_quickly(empty_cache, monkeypatch):
    asked = []

    def refuse(address, timeout):
        asked.append((address, timeout))
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "create_connection", refuse)
    start = time.monotonic()
    with pytest.raises(EnvironmentFault, match="cannot be reached: no route to host"):
        embed_text(PUBLISHED, ["apple"])
    assert time.monotonic() - start < 30  # the loader itself tries longer
    assert asked == [(("huggingface.co", 443), clip_download.REACH_SECONDS)]


def test_a_proxy_is_what_must_be_reached(empty_cache, monkeypatch):
    asked = []

    def refuse(address, timeout):
        asked.append(address)
        raise OSError("refused")

    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(EnvironmentFault, match=r"proxy\.example cannot be reached"):
        embed_text(PUBLISHED, ["apple"])
    assert asked == [("proxy.example", 3128)]


def test_a_name_that_is_looked_up_for_ever_is_found_out_too(empty_cache, monkeypatch):
    over = threading.Event()

    def hang(address, timeout):
        over.wait(30)
        raise OSError("at last")

    monkeypatch.setattr(clip_download, "REACH_SECONDS", 0.05)
    monkeypatch.setattr(socket, "create_connection", hang)
    try:
        with pytest.raises(EnvironmentFault, match="cannot be reached: no answer"):
            clip_download.download("a/b", "c", what="it")
    finally:
        over.set()


class Connected:
    def close(self):
        pass


@pytest.fixture
def hub(empty_cache, monkeypatch) -> list[str]:
    """A hub that can be reached; what is asked of it, in order."""
    import huggingface_hub

    asked = []

    def describe(url, timeout):
        asked.append("size")
        return huggingface_hub.HfFileMetadata(None, None, url, 605_143_284, None)

    def deliver(repository, file):
        asked.append("file")
        raise OSError("disk full\nand more")

    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: Connected())
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", describe)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", deliver)
    return asked


def test_a_download_is_announced_with_its_size_and_its_failure_explained(hub, capsys):
    with pytest.raises(EnvironmentFault, match=r"cannot be downloaded: disk full\."):
        embed_text(PUBLISHED, ["apple"])
    said = capsys.readouterr().err
    assert "CLIP ViT-B-32-quickgelu (openai) is not on this machine" in said
    assert "downloading 605 MB from https://huggingface.co/timm/vit_base_patch32" in said
    assert hub == ["size", "file"]


def test_nothing_is_downloaded_that_could_not_be_announced(hub, monkeypatch, capsys):
    import huggingface_hub

    def fail(url, timeout):
        raise huggingface_hub.errors.HTTPError("connection reset")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
    with pytest.raises(EnvironmentFault, match="connection reset"):
        embed_text(PUBLISHED, ["apple"])
    assert capsys.readouterr().err == ""
    assert hub == []


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.bin"])
def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"pickled")
    with pytest.raises(InputError, match="is a pickle") as caught:
        local_weights(ClipModel.of("any", str(path)))
    assert "save_model" in caught.value.next


def test_the_way_to_convert_a_pickle_works(tmp_path, small_clip, monkeypatch):
    import open_clip
    from safetensors.torch import load_file, save_model

    (tmp_path / "SMALL.json").write_text(json.dumps(SMALL))
    for table in ("_MODEL_CONFIGS", "_MODEL_CONFIG_PATHS"):
        monkeypatch.setattr(open_clip.factory, table, getattr(open_clip.factory, table).copy())
    open_clip.add_model_config(tmp_path / "SMALL.json")
    old, new = tmp_path / "old.pt", tmp_path / "new.safetensors"
    torch.save(load_file(small_clip / clip_text.WEIGHTS_NAME), old)
    save_model(open_clip.create_model("SMALL", str(old)), new)
    expected = embed_text(ClipModel("any", "any", small_clip), ["apple"])
    found = embed_text(ClipModel.of("SMALL", str(new)), ["apple"])
    torch.testing.assert_close(found, expected)


def test_weights_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = check_options(PocoOptions, {"weights": "~/tower"}, where="orderer")
    assert options.clip.weights == tmp_path / "tower"


@pytest.mark.parametrize("text", ["tower.safetensors", "./tower", "a/tower", "old.pt"])
def test_a_path_in_place_of_the_name_of_weights(text):
    assert ClipModel.of("any", text).weights == Path(text)


@pytest.mark.parametrize("text", ["openai", "laion2b_s34b_b79k", "laion400m-e31"])
def test_names_of_weights_are_no_paths(text):
    assert ClipModel.of("any", text).weights is None


def test_unknown_published_weights_are_refused_with_the_choices(empty_cache):
    with pytest.raises(InputError) as caught:
        embed_text(ClipModel("ViT-B-32-quickgelu", "openia"), ["apple"])
    assert "'openia' for model 'ViT-B-32-quickgelu'" in caught.value.what
    assert "openai" in caught.value.expected

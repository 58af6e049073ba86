from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_core.run import checkpoint as module
from distill_core.run.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from distill_core.run.known_data import DATA
from distill_core.system.files import read_tensors, write_tensors
from registry import EnvironmentFault, InputError
from tests.distill_core.small_run import installed, small_config

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    st.text(max_size=5),
)
keys = st.one_of(st.text(max_size=4), st.integers(0, 9))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=12,
)


@given(
    state=st.dictionaries(st.text(max_size=4).filter(lambda key: key != DATA), trees, max_size=4)
)
def test_any_tree_comes_back(state, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    save_checkpoint(run_dir, state, small_config())
    assert load_checkpoint(run_dir, small_config()) == state


def test_tensors_and_optimizer_states_come_back_exactly(tmp_path):
    parameter = torch.nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    state = {
        "optimizer": optimizer.state_dict(),
        "stream": torch.Generator().manual_seed(3).get_state(),
        "scalar": torch.tensor(2.5),
        "mask": torch.tensor([True, False]),
        "view": torch.arange(12).view(3, 4).T,
        "empty": torch.zeros(0, 3),
    }
    save_checkpoint(tmp_path, state, small_config())
    back = load_checkpoint(tmp_path, small_config())
    for name in ("stream", "scalar", "mask", "view", "empty"):
        assert back[name].dtype == state[name].dtype
        assert torch.equal(back[name], state[name])
    again = torch.optim.Adam([parameter], lr=0.5)
    again.load_state_dict(back["optimizer"])
    assert again.param_groups[0]["lr"] == 0.1
    assert torch.equal(again.state[parameter]["exp_avg"], optimizer.state[parameter]["exp_avg"])


def test_what_cannot_be_saved_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"state\.algorithm\.pool is a set"):
        save_checkpoint(tmp_path, {"algorithm": {"pool": {1}}}, small_config())
    assert not checkpoint_path(tmp_path).exists()


def test_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="has no checkpoint") as caught:
        load_checkpoint(tmp_path, small_config())
    assert "--overwrite" in caught.value.next


def test_truncated_at_any_length(tmp_path):
    save_checkpoint(tmp_path, {"x": torch.arange(50.0)}, small_config())
    path = checkpoint_path(tmp_path)
    whole = path.read_bytes()
    for size in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="cannot be read"):
            load_checkpoint(tmp_path, small_config())


def test_one_changed_byte_is_noticed(tmp_path):
    save_checkpoint(tmp_path, {"x": torch.arange(50.0)}, small_config())
    path = checkpoint_path(tmp_path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="digest"):
        load_checkpoint(tmp_path, small_config())


def test_another_format_names_both(tmp_path):
    save_checkpoint(tmp_path, {"x": 1}, small_config())
    path = checkpoint_path(tmp_path)
    tensors, header = read_tensors(path)
    write_tensors(path, tensors, {**header, "format": 99})
    with pytest.raises(InputError, match="format 99") as caught:
        load_checkpoint(tmp_path, small_config())
    assert f"format {module.CHECKPOINT_FORMAT}" in caught.value.expected


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"seed": 5}, "seed"),
        ({"options": {"algo": {"window": 1}}}, "algo.window"),
        ({"data": {"zca_strength": 0.2}}, "data.zca_strength"),
    ],
)
def test_another_configuration_is_refused_by_field(tmp_path, changes, name):
    save_checkpoint(tmp_path, {"x": 1}, small_config())
    with pytest.raises(InputError, match=f"a run with {name} = "):
        load_checkpoint(tmp_path, small_config(**changes))


def test_length_and_judging_may_change(tmp_path):
    save_checkpoint(tmp_path, {"x": 1}, small_config())
    longer = small_config(steps=9, minutes=3, rank_timeout_minutes=1, evaluate={"nets": 1})
    assert load_checkpoint(tmp_path, longer) == {"x": 1}


def test_a_components_option_may_be_newer_than_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path, {"step": 3}, small_config())
    path = checkpoint_path(tmp_path)
    tensors, header = read_tensors(path)
    default = header["config"]["options"]["algo"].pop("clip_decay")
    write_tensors(path, tensors, header)
    assert load_checkpoint(tmp_path, small_config(), plugins=installed()) == {"step": 3}
    other = small_config(options={"algo": {"clip_decay": default / 2}})
    with pytest.raises(InputError, match=f"a run with algo.clip_decay = {default}, not"):
        load_checkpoint(tmp_path, other, plugins=installed())


def test_options_that_are_newer_than_a_checkpoint_have_their_defaults(tmp_path):
    save_checkpoint(tmp_path, {"step": 3}, small_config())
    path = checkpoint_path(tmp_path)
    tensors, header = read_tensors(path)
    for name in ("ema", "threads", "allocator"):
        del header["config"][name]
    del header["config"]["data"]["storage"]
    write_tensors(path, tensors, header)
    assert load_checkpoint(tmp_path, small_config(), plugins=installed()) == {"step": 3}
    with pytest.raises(InputError, match=r"belongs to a run with ema = None, not 0\.5"):
        load_checkpoint(tmp_path, small_config(ema=0.5), plugins=installed())
    header["config"]["gone"] = 1
    write_tensors(path, tensors, header)
    with pytest.raises(InputError, match="belongs to a run with"):
        load_checkpoint(tmp_path, small_config(), plugins=installed())


def test_a_full_disk_keeps_the_old_state(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, {"x": 1}, small_config())

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        save_checkpoint(tmp_path, {"x": 2}, small_config())
    monkeypatch.undo()
    assert load_checkpoint(tmp_path, small_config()) == {"x": 1}
    assert [path.name for path in (Path(tmp_path) / "checkpoint").iterdir()] == [
        "state.safetensors"
    ]


def test_the_state_before_a_damaged_one_is_taken(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, {"step": step}, small_config())
    path = checkpoint_path(tmp_path)
    whole = path.read_bytes()
    for data in (b"", whole[:100], whole[:-1], whole[:-2] + b"??", b"\xff" * 50):
        path.write_bytes(data)
        said = []
        assert load_checkpoint(tmp_path, small_config(), said.append) == {"step": 1}
        assert len(said) == 1
        assert "state.safetensors" in said[0]
    path.unlink()  # killed between the two renames
    assert load_checkpoint(tmp_path, small_config()) == {"step": 1}
    module.previous_path(tmp_path).write_bytes(b"x")
    with pytest.raises(module.DamagedError, match="start again with --overwrite"):
        load_checkpoint(tmp_path, small_config())


def test_a_result_beside_damaged_states_is_not_said_to_be_lost(tmp_path):
    save_checkpoint(tmp_path, {"step": 1}, small_config())
    checkpoint_path(tmp_path).write_bytes(b"x")
    (tmp_path / "distilled.safetensors").write_bytes(b"a result")
    (tmp_path / "manifest.json").write_text('{"format": 1, "files": {"distilled.safetensors": ""}}')
    with pytest.raises(module.DamagedError) as caught:
        load_checkpoint(tmp_path, small_config())
    assert f"`distill verify {tmp_path}` checks" in caught.value.expected
    assert "--overwrite, which deletes the result" in caught.value.next


def test_resuming_begins_again_where_nothing_was_saved_and_clears_half_written_files(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    part = tmp_path / "checkpoint" / ".state.safetensors.0a1b2c3d.part"
    part.write_bytes(b"half")
    said = []
    assert module.state_to_resume(tmp_path, small_config(), said.append) == {}
    assert "begins with its first outer step" in said[0]
    assert not part.exists()


def test_a_result_without_its_checkpoint_is_not_begun_again(tmp_path):
    """Whoever copies a run without its checkpoints would lose its result by resuming it."""
    fixture = Path(__file__).parents[2] / "fixtures" / "run-v1"
    run_dir = shutil.copytree(fixture, tmp_path / "run", ignore=lambda *_: ["checkpoint"])
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    with pytest.raises(InputError, match="has a result and no checkpoint") as caught:
        module.state_to_resume(run_dir, small_config(), lambda line: None)
    assert "--overwrite" in caught.value.next
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before

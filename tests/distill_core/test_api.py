from __future__ import annotations

import copy
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

import distill_core
from distill_core.api import DistillResult
from distill_core.artefact.last_set import keep
from distill_core.config.settings import nested
from distill_core.contracts.data import DataSpec, RawData
from distill_core.data.in_memory import raw_data
from distill_core.engine.losses import soft_cross_entropy
from distill_core.report.record import read_run
from distill_core.training.train import learning_rate, make_optimizer
from registry import InputError, OptionError, UnknownNameError
from tests.caches import make_cache
from tests.distill_core.small_run import SMALL

OPTIONS = {**SMALL["options"], "evaluate": SMALL["evaluate"]}
CHOICE = {
    "representation": "poster",
    "labeler": "poddl",
    "orderer": "poco",
    "algorithm": "ratbptt",
    "ipc": 0.8,
    "steps": 2,
    "device": "cpu",
}


def small(**changes: Any) -> DistillResult:
    return distill_core.distill(**{**CHOICE, "dataset": "shapes", "options": OPTIONS, **changes})


def arrays() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (60, 3, 8, 8), dtype=np.uint8), np.arange(60) % 6


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> DistillResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_CACHE", str(make_cache(tmp_path_factory.mktemp("cache"))))
        return small()


def test_a_run_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    result = small()
    assert capfd.readouterr() == ("", "")
    assert 0 <= result.accuracy.mean <= 1
    assert result.accuracy.std == result.results["distilled"].std
    assert set(result.results) == {"distilled", "random", "full"}
    images, labels = result.dataset.tensors
    assert images.shape == (10, 3, 8, 8)
    assert labels.shape == (10, 6)
    assert isinstance(result.poster, Image.Image)
    folder = result.run_dir
    assert folder.exists()
    del result
    assert not folder.exists()


def test_verbose_prints(capsys: pytest.CaptureFixture[str]) -> None:
    small(verbose=True)
    assert "accuracy on the test set" in capsys.readouterr().out


def test_equal_to_the_command_line(outcome: DistillResult) -> None:
    from distill_core.commands import run as run_command
    from tests.distill_core.small_run import installed, small_config

    config = small_config(steps=2, device="cpu")
    assert config == outcome.config
    results = run_command.run(
        config, installed(), outcome.run_dir.parent / f"{outcome.run_dir.name}-cli",
        resume=False, overwrite=True, quiet=True,
    )  # fmt: skip
    assert results["distilled"].accuracies == outcome.results["distilled"].accuracies


def test_save_load_export_and_train(outcome: DistillResult, tmp_path: Path) -> None:
    saved = outcome.save(tmp_path / "kept")
    again = distill_core.load(saved)
    assert again.verified
    assert torch.equal(again.images, outcome.distilled.images)
    with pytest.raises(InputError, match="exists already"):
        outcome.save(tmp_path / "kept")
    assert outcome.export(tmp_path / "tensors", "tensors")
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    before = network[1].weight.clone()
    assert outcome.train(network) is network
    assert not torch.equal(network[1].weight, before)


def test_the_poster_is_that_of_the_last_complete_set(
    outcome: DistillResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = outcome.save(tmp_path / "saved")
    before = outcome.poster.tobytes()
    keep(saved)
    (saved / "poster.png").unlink()
    (saved / "poster.png").write_bytes(b"half")
    monkeypatch.setattr(outcome, "run_dir", saved)
    assert outcome.poster.tobytes() == before
    assert "<img" in outcome._repr_html_()


def test_evaluate_again(outcome: DistillResult) -> None:
    found = outcome.evaluate(nets=1, controls=False, protocol="dc", steps=2)
    assert len(found.results["convnet"]["distilled"].accuracies) == 1
    with pytest.raises(OptionError, match="nest"):
        outcome.evaluate(nest=1)
    one = outcome.evaluate("convnet", nets=1, controls=False, steps=2)  # not "c", "o", "n", ...
    assert list(one.results) == ["convnet"]
    with pytest.raises(UnknownNameError, match="'lsr'"):
        outcome.evaluate(metrics="lsr")


def test_the_picture_of_a_notebook_is_escaped() -> None:
    names = ["<b>one</b>", *"23456"]
    own = {**OPTIONS, "dataset": {}}
    result = small(dataset=arrays(), class_names=names, options=own)
    page = result._repr_html_()
    assert "<b>one" not in page
    assert "&lt;b&gt;one" in page
    assert "data:image/png;base64," in page
    assert f"{100 * result.accuracy.mean:.2f}" in page
    assert "random real images" in repr(result)
    assert result.evaluate(nets=1, controls=False, steps=2).results["convnet"]


def test_in_a_thread() -> None:
    found: list[DistillResult] = []
    thread = threading.Thread(target=lambda: found.append(small()))
    thread.start()
    thread.join()
    assert found[0].accuracy.mean >= 0


def test_mistakes_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="'ratbptt'"):
        small(algorithm="ratbtt", out=tmp_path / "run")
    with pytest.raises(OptionError, match=r"algo\.windw"):
        small(options={"algo.windw": 3}, out=tmp_path / "run")
    with pytest.raises(OptionError, match="options are a list"):
        small(options=["algo.window=3"], out=tmp_path / "run")
    with pytest.raises(OptionError, match="dataset is a name"):
        small(test=arrays())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [3, b"runs/mine", ["runs/mine"]])
def test_what_is_no_path_is_refused_in_words(given: Any, outcome: DistillResult) -> None:
    """`load(None)` and `out=3` ended in an error of pathlib, after the components were made."""
    for call, name in (
        (lambda: small(out=given), "out"),
        (lambda: outcome.save(given), "path"),
        (lambda: outcome.export(given, "images"), "path"),
        (lambda: distill_core.load(given), "path"),
        (lambda: distill_core.load(None), "path"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError, match=rf"^{name} is .* which is no path") as caught:
            call()
        assert caught.value.next == f'pass {name} as "runs/NAME", for example.'


def test_data_of_one_class_are_refused_before_any_work(tmp_path: Path) -> None:
    """Networks of one class give no gradient, which was blamed on the algorithm."""
    with pytest.raises(InputError, match="has one class, so that every answer is right"):
        small(
            dataset=(IMAGES, np.zeros(60, dtype=int)),
            options={name: each for name, each in OPTIONS.items() if name != "dataset"},
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_options_in_both_forms() -> None:
    flat = nested({"algo.window": 2, "algorithm.total": 4, "evaluate.nets": 1, "run.ema": 0.9})
    assert flat == nested(
        {"algo": {"window": 2, "total": 4}, "evaluate": {"nets": 1}, "run": {"ema": 0.9}}
    )
    with pytest.raises(OptionError, match="no effect"):
        nested({"window": 2})
    with pytest.raises(UnknownNameError, match="Did you mean 'algo'"):
        nested({"alg.window": 2})


def test_what_own_data_lack_is_said_before_the_run_and_recorded() -> None:
    images, labels = arrays()
    tested = labels < 2
    options = {"evaluate": {"nets": 1, "steps": 1, "controls": False}, "backbone.width": 4}
    plain = {"representation": "images", "labeler": "soft", "orderer": "identity", "ipc": None}
    test = images[tested], labels[tested]
    with pytest.warns(UserWarning, match="test images") as caught:
        result = small(
            dataset=(images, labels), test=test, options=options, **plain, algorithm="none"
        )
    assert caught[0].filename == __file__
    manifest = json.loads((result.run_dir / "manifest.json").read_text())
    assert [line.split(":")[0] for line in manifest["data_notes"]] == [
        "no test images of",
        f"{tested.sum()} of {tested.sum()} test images are training images, too",
    ]
    measured = manifest["results"]["distilled"]["by_class"]
    assert measured[2]["accuracy"] is None
    assert measured[0]["images"] == (labels == 0).sum()


def test_every_form_of_own_data_is_the_same() -> None:
    images, labels = arrays()
    expected = raw_data((images, labels))
    assert len(expected.test_labels) == 12
    forms: list[Any] = [
        (torch.from_numpy(images), torch.from_numpy(labels)),
        (images / 255, labels.tolist()),
        TensorDataset(torch.from_numpy(images), torch.from_numpy(labels)),
        [(Image.fromarray(image.transpose(1, 2, 0)), label) for image, label in
         zip(images, labels, strict=True)],
    ]  # fmt: skip
    for form in forms:
        found = raw_data(form)
        assert found.spec == expected.spec
        assert torch.equal(found.train_images, expected.train_images)
        assert torch.equal(found.test_labels, expected.test_labels)
    given = raw_data((images, labels), (images[:6], labels[:6]))
    assert len(given.train_labels) == 60
    assert raw_data(given).train_images is given.train_images  # nothing is copied


IMAGES, LABELS = arrays()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((IMAGES.transpose(0, 2, 3, 1), LABELS), r"\(N, C, H, W\)"),
        ((IMAGES[:, 0], LABELS), r"images\[:, None\]"),
        ((IMAGES / 127.5 - 1, LABELS), "leave normalisation out"),
        ((IMAGES.astype(np.int64), LABELS), "int64"),
        ((np.full((60, 3, 8, 8), np.nan), LABELS), "nan"),
        ((IMAGES, LABELS[:50]), "training labels"),
        ((IMAGES, LABELS - 1), "label 0 of the training data is -1"),
        ((IMAGES, LABELS * 2), "no training images of: 1, 3"),
        ((IMAGES, LABELS / 2), "whole numbers"),
        ((IMAGES, np.eye(6)[LABELS]), "argmax"),
        ((IMAGES[:0], LABELS[:0]), "training data are empty"),
        (IMAGES, "are a ndarray"),
        (3, "are a int"),
        ([1, 2, 3], "item 0 of the training data is a int"),
        ([(IMAGES[0], 0), (IMAGES[0, :, :4], 1), (IMAGES[0], 1)], "images of one shape"),
    ],
)
def test_own_data_that_do_not_fit_are_explained(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        raw_data(data)
    assert caught.value.expected
    assert caught.value.next


@pytest.mark.parametrize(
    "given", [{"test": (IMAGES, LABELS)}, {"class_names": "abcdef"}, {"augmentations": ["crop"]}]
)
def test_what_only_own_images_take_is_refused_beside_others(given: dict[str, Any]) -> None:
    """It was ignored."""
    with pytest.raises(InputError, match="are given beside RawData"):
        raw_data(raw_data((IMAGES, LABELS)), **given)
    with pytest.raises(OptionError, match="are for images of your own"):
        distill_core.distill(dataset="digits", **given)


def test_raw_data_are_checked() -> None:
    spec = DataSpec("mine", ("a", "b"), (3, 8, 8), ())
    images, labels = torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 0, 1])
    with pytest.raises(InputError, match=r"torch.uint8"):
        raw_data(RawData(spec, images, labels, images, labels))


def test_huge_labels_are_refused_before_a_name_is_made_for_each():
    images, labels = torch.zeros(2, 3, 8, 8), torch.tensor([0, 2_012_000_123])
    with pytest.raises(InputError, match="the largest label is 2012000123") as caught:
        raw_data((images, labels))
    assert "10000" in caught.value.expected


def test_names_may_be_an_array():
    images, labels = torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 0, 1])
    found = raw_data((images, labels), class_names=np.array(["cat", "dog"]))  # type: ignore[arg-type]
    assert found.spec.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"class_names": ["a", "a", "b", "c", "d", "e"]}, "2 classes named 'a'"),
        ({"class_names": ["a", " ", "b", "c", "d", "e"]}, "1 class named ' '"),
        ({"class_names": "abcdef"}, "class_names is text"),
        ({"class_names": ["a", "b"]}, "labels from 0 to 5 but 2 classes"),
        ({"augmentations": "flip"}, "augmentations is text"),
    ],
)
def test_names_that_are_none_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        raw_data((IMAGES, LABELS), **given)


def test_the_first_of_several_networks_distills_and_all_judge(
    outcome: DistillResult, tmp_path: Path
) -> None:
    networks = ["convnet", "timm:test_resnet"]
    result = small(
        backbone=networks, out=tmp_path / "run", options={**OPTIONS, "evaluate.controls": False}
    )
    assert [*result.by_network] == networks
    assert result.results is result.by_network["convnet"]
    assert torch.equal(result.distilled.images, outcome.distilled.images)
    record = read_run(tmp_path / "run")
    assert [each.name for each in record.judgements] == networks
    assert record.verdict.name == "convnet"
    assert "<td>timm:test_resnet, 2 nets</td>" in (tmp_path / "run" / "report.html").read_text()
    again = result.evaluate(["timm:test_resnet"], controls=False)
    assert again.results["timm:test_resnet"]["distilled"].accuracies == (
        result.by_network["timm:test_resnet"]["distilled"].accuracies
    )


def test_a_network_that_cannot_judge_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no timm model named 'resnte18'"):
        small(backbone=["convnet", "timm:resnte18"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_loader_has_the_batches_of_the_recipe(outcome: DistillResult) -> None:
    distilled = outcome.distilled
    batches = distilled.loader()
    assert len(batches) == distilled.recipe.steps
    again = [next(iter(batches)) for _ in range(2)]
    assert torch.equal(again[0][0], again[1][0])
    images, labels = next(iter(distilled.loader(batch_size=3)))
    assert images.shape == (3, 3, 8, 8)
    assert labels.shape == (3, 6)
    for wrong in (0, 2.5, True, "20"):
        with pytest.raises(InputError, match=f"batch_size = {wrong!r}"):
            distilled.loader(batch_size=wrong)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    twin = copy.deepcopy(network)
    distilled.train(network, seed=3)
    optimizer = make_optimizer(twin, distilled.recipe)
    for step, (images, labels) in enumerate(distilled.loader(seed=3)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(distilled.recipe, step)
        optimizer.zero_grad()
        soft_cross_entropy(twin(images), labels).backward()
        optimizer.step()
    assert torch.equal(network[1].weight, twin[1].weight)

"""Options that do nothing beside others are refused where the user gave them, and there alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill_core.config.effects import check_effect, check_effects, given_by_user
from distill_core.config.run_config import resolve, to_toml
from distill_core.config.sections import SECTIONS
from distill_core.config.settings import merge, parse_overrides
from distill_core.hookspecs import KINDS
from distill_core.system.files import parse_toml
from registry import OptionError
from registry.options import Options, marked
from tests.distill_core.cli.fakes import distill
from tests.distill_core.small_run import SMALL, installed

CORESET = ("repr=coreset", "algo=none", "labeler=onehot", "orderer=identity")


def checked(*pairs: str, preset: dict[str, Any] | None = None, **names: str) -> None:
    weaker = merge({**SMALL, "options": {"dataset": SMALL["options"]["dataset"]}}, preset or {})
    stronger = {**names, **parse_overrides(pairs)}
    check_effects(resolve(merge(weaker, stronger), installed()), stronger)


@pytest.mark.parametrize(
    ("pairs", "names", "said"),
    [
        (["repr.area=3"], {}, "with repr.canvas = pixels"),
        (["repr.blocks=2", "repr.canvas=lowrank"], {}, "with repr.canvas = lowrank"),
        (
            ["repr.area=3", "repr.canvas=bases", "repr.size=32x48"],
            {},
            "with repr.size = 32x48",
        ),
        (["repr.density=published", "repr.patches=2x5"], {}, "with repr.patches = 2x5"),
        (["labeler.grid=2x2", "labeler.mode=fixed"], {}, "with labeler.mode = fixed"),
        (["labeler.regions=areas"], {}, "with labeler.mode = learned"),
        (["orderer.file=a.npz", "orderer.similarity=image"], {}, "with orderer.similarity = image"),
        (["orderer.file=a.npz", "orderer.similarity=clip"], {}, "with orderer.similarity = clip"),
        (["orderer.prompt=a {}", "orderer.similarity=image"], {}, "orderer.similarity = image"),
        (
            ["orderer.prompt=a {}", "orderer.file=a.npz"],
            {},
            "with orderer.similarity = auto and orderer.file = a.npz",
        ),
        (["orderer.pretrained=b", "orderer.weights=a"], {}, "with orderer.weights = a"),
        (["algo.spread=2"], {}, "with algo.curriculum = random"),
        (["algo.min_offset=2", "algo.curriculum=fixed"], {}, "with algo.curriculum = fixed"),
        (["algo.epoch_steps=2", "algo.curriculum=fixed"], {}, "with algo.curriculum = fixed"),
        (["algo.weight_decay=0.1"], {}, "with algo.inner_optimizer = adam"),
        (["algo.momentum=0.5"], {}, "with algo.inner_optimizer = adam"),
        (["algo.clip_factor=3", "algo.clip=false"], {}, "algo.clip = false and algo.label_clip"),
        (["algo.label_lr=0.1"], {"algo": "dc"}, "with algo.learn_labels = false"),
        (["algo.inner_loop=9", "algo.outer_loop=1"], {"algo": "dc"}, "with algo.outer_loop = 1"),
        (["algo.net_lr=1", "algo.outer_loop=1"], {"algo": "dsa"}, "with algo.outer_loop = 1"),
        (["algo.net_batch=9", "algo.inner_loop=0"], {"algo": "dc"}, "with algo.inner_loop = 0"),
        (["algo.mode=shared_aug"], {"algo": "dc"}, "with algo.augment = none"),
        (["algo.alpha=1"], {"algo": "mtt"}, "with algo.rho = 0."),
        (["repr.features=network"], {"repr": "coreset"}, "with repr.method = random"),
        (["repr.epochs=3"], {"repr": "coreset"}, "repr.method = random and repr.features = pixels"),
        (["repr.fit_steps=9", "repr.init=noise"], {"repr": "gsdd"}, "with repr.init = noise"),
        (["data.zca_strength=0.2"], {}, "with data.whitening = standardise"),
    ],
)
def test_what_does_nothing_is_refused(pairs: list[str], names: dict[str, str], said: str) -> None:
    option = pairs[0].partition("=")[0]
    with pytest.raises(OptionError) as caught:
        checked(*pairs, **names)
    assert caught.value.what.startswith(f"option {option} has no effect with ")
    assert said in caught.value.what
    assert caught.value.next.startswith("drop it, or ")


@pytest.mark.parametrize(
    ("pairs", "names"),
    [
        (["repr.area=3", "repr.canvas=bases"], {}),
        (["repr.density=published"], {}),
        (["repr.density=passes", "repr.patches=2x5"], {}),  # the default is no wish
        (["orderer.file=a.npz"], {}),
        (["orderer.prompt=a {}", "orderer.similarity=clip"], {}),
        (["orderer.prompt=a {}", "orderer.file=none"], {}),
        (["algo.clip_factor=3", "algo.clip=false", "algo.label_clip=true"], {}),
        (["repr.epochs=3", "repr.features=network", "repr.method=kcenter"], {"repr": "coreset"}),
        (["algo.alpha=1"], {"algo": "ftd"}),
        (["algo.inner_loop=9", "algo.net_lr=1", "algo.outer_loop=2"], {"algo": "dc"}),
    ],
)
def test_what_does_something_is_not(pairs: list[str], names: dict[str, str]) -> None:
    checked(*pairs, **names)


def test_what_a_preset_sets_may_be_overruled() -> None:
    preset = parse_overrides(["repr.density=published", "repr.canvas=bases", "repr.area=3"])
    checked("repr.patches=2x5", "repr.canvas=pixels", preset=preset)


def test_the_error_says_what_would_give_it_an_effect() -> None:
    with pytest.raises(OptionError) as caught:
        checked("algo.patience=9")
    assert str(caught.value) == (
        "option algo.patience has no effect with algo.curriculum = random.\n"
        "Expected algo.curriculum = staged or adaptive with algo.patience.\n"
        "Next: drop it, or pass -o algo.curriculum=staged."
    )


def test_a_file_of_the_user_is_looked_at_and_that_of_a_run_is_not(tmp_path: Path) -> None:
    mine = merge(SMALL, parse_overrides(["labeler.mode=fixed", "data.zca_strength=0.2"]))
    config = resolve(mine, installed())
    with pytest.raises(OptionError, match=r"data.zca_strength has no effect"):
        check_effects(config, *given_by_user(mine, {}, preset=None))
    check_effects(config, *given_by_user(mine, {}, preset="mine"))
    written = parse_toml(to_toml(config)) | {"format": 1}
    check_effects(config, *given_by_user(written, {}, preset=None))


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--preset", "quick-digits", "--dry-run"),
        ("experts", "--algo", "mtt", "--dataset", "digits"),
        ("order", "--orderer", "identity", "--dataset", "digits"),
    ],
)
def test_commands_refuse_it_before_any_work(words: tuple[str, ...]) -> None:
    result = distill(*words, "-o", "data.zca_strength=0.2")
    assert result.exit_code == 2
    assert "option data.zca_strength has no effect" in result.stderr


def test_a_rival_of_an_order_is_looked_at_too() -> None:
    words = ("order", "--orderer", "identity", "--dataset", "digits", "--compare")
    result = distill(*words, "qap:similarity=image,file=a.npz")
    assert "option orderer.file has no effect" in result.stderr


def test_conditions_name_options_and_values_that_exist() -> None:
    """A mark with a slip of the pen would refuse everybody, or nobody."""
    models = dict(SECTIONS)
    for kind in KINDS:
        for name in installed()[kind.name]:
            models[f"{kind.name} {name}"] = installed()[kind.name].options(name)
    found = 0
    for model in models.values():
        for need in marked(model, "needs").values():
            for text in (each for part in need.split(" and ") for each in part.split(" or ")):
                name, _, values = text.partition("=")
                for value in values.split("|"):
                    model.model_validate({name.removesuffix("!"): value})
                    found += 1
    assert found > 40


def test_a_plugin_marks_its_options_too() -> None:
    from pydantic import Field

    from distill_core.plugin import about

    class Tea(Options):
        milk: bool = False
        sugar: int = Field(0, **about("spoons", needs="milk=true"))

    check_effect("tea", Tea(sugar=2, milk=True), ["sugar"])
    with pytest.raises(OptionError, match=r"tea\.sugar has no effect with tea\.milk = false\."):
        check_effect("tea", Tea(sugar=2), ["sugar"])

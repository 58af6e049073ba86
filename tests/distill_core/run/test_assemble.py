from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from distill_core.config.discovery import discover
from distill_core.config.run_config import resolve
from distill_core.contracts.geometry import Boxes
from distill_core.contracts.network import Backbone
from distill_core.contracts.streams import Streams
from distill_core.hookspecs import hookimpl
from distill_core.run.assemble import assemble
from distill_core.system.out_of_memory import OutOfMemory
from registry import Component, ContractError, InputError, OptionError, Options
from tests.distill_core.small_run import SMALL, installed, small_assembly, small_config


class Offers:
    """A plugin in memory with one component of one kind."""

    def __init__(self, kind, factory, options=None):
        component = Component("made", factory, options, "made for a test")
        setattr(self, f"distill_{kind}", hookimpl(self._offer(kind, component)))

    @staticmethod
    def _offer(kind, component):
        def offer():
            return [component]

        offer.__name__ = f"distill_{kind}"
        return offer


def test_parts_fit_together_and_are_on_the_device():
    assembly = small_assembly()
    batch = assembly.synthetic.all()
    assert batch.images.shape == (10, 3, 8, 8)
    assert batch.labels.shape == (10, 6)
    assert sorted(assembly.placement.class_grid.flatten().tolist()) == list(range(6))
    assert assembly.notes["similarity"] == "image"
    assert float(assembly.notes["ordering score on class-mean images"]) > 0
    assert assembly.synthetic.budget().ipc <= 0.8


@pytest.mark.parametrize(
    ("num_classes", "changes", "noted"),
    [(7, {}, True), (8, {}, False), (7, {"repr": {"per_class": True}}, False)],
)
def test_classes_that_fit_into_one_row_alone_are_remarked_where_they_share_a_canvas(
    num_classes, changes, noted
):
    dataset = {"dataset": {"classes": num_classes}}
    notes = small_assembly(ipc=1.0, options={**dataset, **changes}).notes
    assert ("7 is a prime number" in notes.get("class grid", "")) is noted
    assert ("6 classes would have a grid of 2x3" in notes.get("class grid", "")) is noted


@pytest.mark.parametrize(
    ("algo", "items"), [("ratbptt", 8), ("bptt", 12), ("dm", 96)], ids=["ratbptt", "bptt", "dm"]
)
def test_a_representation_may_ask_how_many_items_an_inner_loop_draws(algo, items):
    lengths = {
        "ratbptt": {"window": 2, "total": 30, "batch": 8, "real_batch": 16},
        "bptt": {"steps": 30, "batch": 12, "real_per_class": 2},
        "dm": {},
    }
    config = resolve(
        {
            **SMALL,
            "algo": algo,
            "options": {
                **SMALL["options"],
                "repr": {},
                "labeler": {"mode": "fixed"},
                "algo": lengths[algo],
                "dataset": {**SMALL["options"]["dataset"], "size": 28},
            },
        },
        installed(),
    )
    assert len(assemble(config, installed()).synthetic) == items


def test_a_given_class_grid_is_not_asked_for_again():
    grid = torch.arange(6).reshape(2, 3)
    assembly = assemble(small_config(), installed(), class_grid=grid, notes={"kept": "yes"})
    assert torch.equal(assembly.placement.class_grid, grid)
    assert assembly.notes == {"kept": "yes"}


def test_parts_that_do_not_fit_are_refused_before_data_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path))  # there is no CIFAR-10
    settings = {"dataset": "cifar10", "algo": "dm", "ipc": 1.0}
    config = small_config(**settings, options={"labeler": {"mode": "learned"}})
    with pytest.raises(InputError, match="algorithm 'dm' does not learn labels"):
        assemble(config, installed())
    fitting = small_config(**settings)
    with pytest.raises(InputError, match="download"):
        assemble(fitting, installed())


def test_traits_are_checked_where_only_files_tell_the_shape(tmp_path):
    """Nothing is read: there is no such folder."""
    settings = {"dataset": "imagefolder", "algo": "dm", "ipc": 1.0}
    folder = {"path": str(tmp_path / "none")}
    config = small_config(**settings, options={"labeler": {"mode": "learned"}, "dataset": folder})
    with pytest.raises(InputError, match="algorithm 'dm' does not learn labels"):
        assemble(config, installed())
    config = small_config(**settings, options={"dataset": folder})
    with pytest.raises(InputError, match="none"):
        assemble(config, installed())


class OnePixel(Backbone):
    """Batch normalisation of a single pixel."""

    def __init__(self, options, *, spec):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(spec.image_shape[0])
        self.head = torch.nn.Linear(spec.image_shape[0], spec.num_classes)

    def embed(self, images):
        return self.norm(images.mean((2, 3), keepdim=True)).flatten(1)


@pytest.mark.parametrize(
    ("algo", "options", "of"),
    [
        ("mtt", {"batch": 9}, "the last batch of a pass, by algo.batch = 9"),
        ("ratbptt", {"batch": 1, "window": 1, "total": 1}, "the training of judged networks"),
        ("ratbptt", {"batch": 2, "window": 1, "total": 1}, ""),
        ("bptt", {"batch": 1, "steps": 2}, "a step of algorithm 'bptt'"),
    ],
)
def test_batch_normalisation_of_one_image_is_refused_before_data_are_loaded(
    algo, options, of, monkeypatch
):
    class Loaded(Exception):
        pass

    def load(plan, *args):
        raise Loaded

    monkeypatch.setattr("distill_core.run.plan.Plan.real_data", load)
    plugins = discover(extra=[("mine", Offers("backbones", OnePixel))])
    chosen = {"repr": "images", "labeler": "onehot", "orderer": "identity", "backbone": "made"}
    settings = {**SMALL, **chosen, "algo": algo, "ipc": 1, "dataset": "digits"}
    protocol = {"protocol": "dc"} if algo == "bptt" else {}  # batches of 256 there
    settings = {**settings, "options": {"algo": options}, "evaluate": protocol}
    config = resolve(settings, plugins)
    with pytest.raises(InputError if of else Loaded, match=of or None):
        assemble(config, plugins)


def test_what_needed_the_memory_is_named(monkeypatch):
    monkeypatch.setattr("distill_core.run.parts.check_budget_fits", lambda plan, spec: None)
    with pytest.raises(OutOfMemory) as caught:
        assemble(small_config(repr="images", ipc=1e17, options={"repr": {}}), installed())
    assert caught.value.expected == "room for the synthetic images and their labels."
    assert caught.value.next == "lower -o run.ipc=1e+17."


def test_an_orderer_that_forgets_a_class_is_refused():
    class Forgetful:
        def order(self, real, grid_shape, *, generator):
            return torch.zeros(grid_shape, dtype=torch.int64)

    plugins = discover(extra=[("forgetful", Offers("orderers", lambda options: Forgetful()))])
    config = small_config().model_copy(
        update={"orderer": "made", "options": {**small_config().options, "orderer": Options()}}
    )
    with pytest.raises(InputError, match=r"not a permutation of the classes; missing: \[1, 2"):
        assemble(config, plugins)


@pytest.mark.parametrize("what", ["images", "labels"])
def test_an_orderer_that_changes_the_real_data_is_refused(what):
    class Blanking:
        def order(self, real, grid_shape, *, generator):
            getattr(real.train, what).zero_()
            return torch.arange(6).reshape(grid_shape)

    plugins = discover(extra=[("blanking", Offers("orderers", lambda options: Blanking()))])
    config = small_config().model_copy(update={"orderer": "made"})
    config.options["orderer"] = Options()
    with pytest.raises(ContractError, match=r"^orderer 'made' of blanking .* changes the real"):
        assemble(config, plugins)


def offered_orderer(order):
    """Return plugins with an orderer that is `order(real, grid_shape, generator)`."""

    class Made:
        def order(self, real, grid_shape, *, generator):
            return order(real, grid_shape, generator)

    plugins = discover(extra=[("mine", Offers("orderers", lambda options: Made()))])
    config = small_config().model_copy(update={"orderer": "made"})
    config.options["orderer"] = Options()
    return config, plugins


@pytest.mark.parametrize(
    ("seed", "draw"),
    [
        (torch.manual_seed, lambda: torch.randperm(6)),
        (np.random.seed, lambda: np.random.permutation(6)),  # noqa: NPY002
        (random.seed, lambda: random.sample(range(6), 6)),
    ],
    ids=["torch", "numpy", "random"],
)
def test_an_orderer_that_draws_from_a_global_random_state_is_refused(seed, draw):
    def order(real, grid_shape, generator):
        return torch.tensor(list(draw())).reshape(grid_shape)

    seed(0)  # one seed of 720 or so gives the same order twice
    with pytest.raises(ContractError, match=r"^orderer 'made' of mine .* global random state"):
        assemble(*offered_orderer(order))


@pytest.mark.parametrize("draw", [lambda: torch.manual_seed(12345), random.random])
def test_an_orderer_may_touch_global_random_states_that_decide_nothing(draw):
    """As a package does that is imported for the first time."""

    def order(real, grid_shape, generator):
        draw()
        return torch.randperm(6, generator=generator).reshape(grid_shape)

    config, plugins = offered_orderer(order)
    expected = torch.randperm(6, generator=Streams(config.seed)["order"])
    found = assemble(config, plugins).synthetic.placement.class_grid
    assert found.flatten().tolist() == expected.tolist()


def test_a_plugin_that_raises_is_named():
    class Broken:
        def order(self, real, grid_shape, *, generator):
            raise ZeroDivisionError("oh")

    plugins = discover(extra=[("hilbert", Offers("orderers", lambda options: Broken()))])
    config = small_config().model_copy(
        update={"orderer": "made", "options": {**small_config().options, "orderer": Options()}}
    )
    with pytest.raises(ZeroDivisionError) as caught:
        assemble(config, plugins)
    assert caught.value.__notes__ == [
        "raised by orderer 'made' of plugin hilbert ((not installed) 0)"
    ]


def test_a_component_of_the_wrong_type_is_refused():
    plugins = discover(extra=[("odd", Offers("labelers", lambda options, placement: 3))])
    config = small_config().model_copy(
        update={"labeler": "made", "options": {**small_config().options, "labeler": Options()}}
    )
    with pytest.raises(ContractError, match=r"labeler .made. of odd .* made a int"):
        assemble(config, plugins)


def test_labels_off_the_simplex_are_refused_where_they_are_needed():
    def free(options, placement):
        from distill_core.testing.small import TinyLabels

        class Free(TinyLabels):
            simplex = False

        return Free(placement=placement, learned=True)

    plugins = discover(extra=[("free", Offers("labelers", free))])
    config = small_config().model_copy(
        update={"labeler": "made", "options": {**small_config().options, "labeler": Options()}}
    )
    with pytest.raises(InputError) as caught:
        assemble(config, plugins)
    assert str(caught.value) == (
        "labeler 'made' gives targets off the simplex, and algorithm 'ratbptt' needs soft "
        "labels.\n"
        "Expected labels with rows that are >= 0 and sum to 1.\n"
        "Next: choose another labeler, or an algorithm that accepts any target."
    )


@pytest.mark.parametrize("starts", [True, False])
def test_the_labeler_sees_the_starting_images_once_unless_a_state_follows(starts):
    seen = []

    def watching(options, placement):
        from distill_core.testing.small import TinyLabels

        class Watching(TinyLabels):
            def start(self, images, *, real, experts, tell):
                seen.append(images.clone())
                assert experts.real is real
                tell("looked")

        return Watching(placement=placement, learned=False)

    plugins = discover(extra=[("watching", Offers("labelers", watching))])
    config = small_config(repr="images", ipc=1).model_copy(update={"labeler": "made"})
    config.options["labeler"] = Options()
    lines = []
    assembly = assemble(config, plugins, start=starts, tell=lines.append)
    if starts:
        assert torch.equal(*seen, assembly.synthetic.all().images)
        assert lines == ["looked"]
    else:
        assert seen == lines == []


def test_a_start_from_the_global_random_state_is_refused(monkeypatch):
    from podd_plugin.poddl import Poddl as Labeler

    monkeypatch.setattr(Labeler, "start", lambda self, images, **given: torch.rand(1))
    with pytest.raises(ContractError, match=r"'poddl' of podd .* global random state in `start`"):
        small_assembly()


def test_a_representation_above_the_budget_is_refused():
    with pytest.raises(InputError, match=r"stores 1\.0000 images per class"):
        small_assembly(ipc=0.5, options={"repr": {"size": "16x24"}})


def test_settings_are_not_changed():
    assert SMALL["ipc"] == 0.8


def test_the_engine_and_the_experts_of_a_run_are_what_plugins_are_promised() -> None:
    from distill_core.plugin import Engine, Experts, Task

    task: Task = small_assembly().algorithm.task  # type: ignore[attr-defined]
    assert isinstance(task.engine, Engine)
    assert isinstance(task.experts, Experts)
    assert not isinstance(object(), Engine)


def test_a_budget_beyond_the_machine_is_refused_before_it_is_allocated() -> None:
    with pytest.raises(InputError) as caught:
        small_assembly(ipc=1e12)
    assert "--ipc 1e+12 needs " in caught.value.what
    assert caught.value.next == "lower --ipc."


@pytest.mark.parametrize("representation", ["images", "basis"])
def test_a_huge_option_is_named_and_not_the_representation(representation):
    options = {**SMALL["options"], "algo": {}, "orderer": {}, "repr": {"init_scale": 1e300}}
    chosen = {"repr": representation, "labeler": "onehot", "orderer": "identity", "algo": "dm"}
    config = resolve({**SMALL, **chosen, "ipc": 1, "options": options}, installed())
    with pytest.raises(OptionError, match=r"with repr\.init_scale=1e\+300: ") as caught:
        assemble(config, installed())
    assert caught.value.next == "change -o repr.init_scale=1e+300."


def test_a_layout_that_does_not_hold_together_is_refused(monkeypatch):
    """Items beyond the canvas were cut from somewhere else, without a word."""
    from podd_plugin.poster import Poster

    made = Poster.__init__

    def shifted(self, *args, **kwargs):
        made(self, *args, **kwargs)
        items = self.layout.items
        beyond = Boxes(items.canvas, items.yxyx + 100, items.item)
        self.layout = replace(self.layout, items=beyond)

    monkeypatch.setattr(Poster, "__init__", shifted)
    with pytest.raises(ContractError, match=r"^representation 'poster' of .* leave the canvas"):
        small_assembly()

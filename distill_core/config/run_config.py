"""The configuration of a run: one frozen model, read from defaults, a file or preset, and -o.

Later ones win: defaults, preset or file, flags and `-o`. Nothing heavy is imported here, and of a
component only its options model; of an algorithm its class, too, if the labels depend on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

import tomli_w
from pydantic import Field, field_serializer, field_validator

from distill_core.config.data_name import data_name
from distill_core.config.labels import usable_labels
from distill_core.config.named_models import by_name, first_distills, full_name
from distill_core.config.sections import SECTIONS, DataOptions, EngineOptions, EvaluateOptions
from distill_core.hookspecs import BY_OPTION
from distill_core.system.units import parse_size
from registry import Components, OptionError, Plugins, UnknownNameError
from registry.options import Options, about, check_options, marked, written


class RunConfig(Options):
    """All settings that decide the result of a run."""

    repr: str = Field(description="representation")
    labeler: str = Field(description="labeler")
    orderer: str = Field(description="class orderer")
    algo: str = Field(description="distillation algorithm")
    dataset: str = Field("digits", description="dataset")
    backbone: str = Field("convnet", description="network to distill with")
    ipc: float | None = Field(
        None,
        gt=0,
        description="pixel budget, images per class; default: the representation's",
        **about("images per class"),
    )
    budget_bytes: int | None = Field(
        None,
        gt=0,
        description="budget of all that is needed to train, labels counted, for example 30KiB, in "
        "place of ipc (also --budget-bytes)",
        **about("bytes"),
    )
    steps: int = Field(300, ge=1, description="outer steps", **about("outer steps"))
    ema: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="decay of a moving average over the outer steps, which is validated, saved and "
        "judged instead of the last state, for example 0.999; in step t, from 0, it is at most "
        "(1 + t) / (10 + t); default: no average, or what the algorithm asks for",
        **about(advanced="yes"),
    )
    lr_decay: Literal["none", "linear", "cosine"] = Field(
        "none",
        description="how all outer learning rates fall to zero over the run, by its steps or its "
        "minutes, whichever is further; with minutes, other timings give other bits",
    )
    minutes: float | None = Field(
        None,
        gt=0,
        description="stop after this many minutes of outer steps, if that comes first",
        **about("minutes"),
    )
    seed: int = Field(0, ge=0, description="seed of every random draw")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    threads: int | None = Field(
        None,
        ge=1,
        description="threads of a process; default: one for each physical core",
        **about("threads"),
    )
    allocator: Literal["auto", "tuned", "stock"] = Field(
        "auto",
        description="tuned: glibc keeps freed memory, twice as fast on CPUs; stock: the system's "
        "default; auto: tuned, unless another allocator or setting is in use",
    )
    tf32: bool = Field(
        False,
        description="let a CUDA device round the convolutions of outer steps to TensorFloat-32: "
        "faster, and exact to 3 digits; whitening, experts, labels and judging never are",
    )
    deterministic: bool = Field(
        False,
        description="use operations that give the same bits every time, also on a CUDA device, and "
        "try no faster ones; PyTorch warns of those without such a form. On the CPU all have one",
    )
    procs: int = Field(
        1,
        ge=1,
        description="processes on this machine, which average their hypergradients (also --procs)",
        **about("processes"),
    )
    checkpoint_minutes: float = Field(
        5.0, gt=0, description="minutes between checkpoints", **about("minutes")
    )
    snapshots: int = Field(
        0,
        ge=0,
        description="pictures to save over the run, from start to end, for a time-lapse",
        **about("pictures", advanced="yes"),
    )
    rank_timeout_minutes: float = Field(
        10.0,
        gt=0,
        description="minutes without an answer after which a process counts as lost",
        **about("minutes"),
    )
    on_divergence: Literal["stop", "halve-lr"] = Field(
        "stop",
        description="what to do when numbers are no longer finite: stop, or return to an "
        "earlier finite state and halve the outer learning rates (also --on-divergence)",
        **about(advanced="yes"),
    )
    data: DataOptions = Field(default_factory=DataOptions, description="whitening and split")
    engine: EngineOptions = Field(default_factory=EngineOptions, description="hypergradients")
    evaluate: EvaluateOptions = Field(default_factory=EvaluateOptions, description="judging")
    options: dict[str, Options] = Field(
        default_factory=dict, description="settings of the components, by kind"
    )

    @field_validator("budget_bytes", mode="before")
    @classmethod
    def _read_bytes(cls, given: Any) -> Any:
        """Read an amount with a unit; a number is one of bytes."""
        if not isinstance(given, str) or (given.isdecimal() and int(given)):
            return given
        return parse_size(
            given, what="run.budget_bytes", example="30KiB", unitless="a whole number of bytes"
        )

    @field_serializer("options")
    def _written(self, options: Mapping[str, Options]) -> dict[str, dict[str, Any]]:
        return {prefix: written(each) for prefix, each in options.items()}

    def chosen(self, option: str) -> str:
        """Return the component's name for an option prefix, for example "algo"."""
        name: str = getattr(self, option)
        return name

    def named(self, option: str) -> str:
        """Return the component as users type it: with its model, as "timm:resnet18", if it makes
        many."""
        return full_name(self.chosen(option), self.options[option])

    def written_options(self) -> dict[str, dict[str, Any]]:
        """Return the options of the components as files have them, by kind."""
        return self._written(self.options)

    def component(self, option: str) -> dict[str, Any]:
        """Return name and options of a component as files have them, for example of "algo"."""
        return {"name": self.chosen(option), "options": self.written_options()[option]}

    @property
    def data_name(self) -> str:
        """What the data are called for a reader: the dataset, or a user's own file or folder."""
        return data_name(self.component("dataset"))


def default_choice(option: str) -> str | None:
    """Return the component of a kind that is used where none is chosen; None: one must be."""
    field = RunConfig.model_fields[option]
    return None if field.is_required() else field.default


class _Tables(Options):
    """Raw settings of the components, by kind."""

    options: dict[str, dict[str, Any]] = Field(default_factory=dict)


CHOSEN = ("repr", "labeler", "orderer", "algo")  # kinds without a default


def resolve(
    settings: Mapping[str, Any],
    plugins: Plugins,
    *,
    needed: Collection[str] = CHOSEN,
) -> RunConfig:
    """Check settings against the run's model and every chosen component's, and fill defaults.

    The result holds every option, so that it reproduces the run even if a default changes. Settings
    that a run wrote have a `format`; an option that they lack is newer than that run, and takes
    what its mark `absent` says, if it has one.

    Args:
        settings: as `merge` makes them.
        plugins: what is installed.
        needed: the kinds without a default that must be chosen. The others are left empty,
            for a configuration that does not describe a run.

    Raises:
        UnknownNameError, OptionError: what is wrong, with the nearest valid name.
    """
    settings = by_name(first_distills(settings), plugins)
    for section, model in SECTIONS.items():
        if isinstance(settings.get(section), Mapping):
            # On their own first, so that a mistake is called what the user called it.
            check_options(model, settings[section], where=section)
    of_run = settings.pop("format", None) is not None
    unneeded = {each for each in BY_OPTION if default_choice(each) is None} - set(needed)
    missing = [name for name in needed if not settings.get(name)]
    if missing:
        # A mistyped name is told before others are asked for.
        rest = {**settings, **dict.fromkeys({*missing, *unneeded}, ""), "options": {}}
        check_options(RunConfig, rest, where="run")
        _check_names(settings, plugins)
        flags = [f"--{name}" for name in needed]
        asked = " and ".join(filter(None, [", ".join(flags[:-1]), flags[-1]]))
        raise OptionError(
            f"nothing says which {', '.join(missing)} to use.",
            expected=f"{asked}, or a file or preset with {'them' if flags[1:] else 'it'}.",
            next="`distill list` shows what can be chosen, `distill presets` whole configurations.",
        )
    settings = {**settings, **dict.fromkeys(unneeded, "")}
    config = check_options(RunConfig, {**settings, "options": {}}, where="run")
    given = check_options(_Tables, {"options": settings.get("options", {})}, where="run").options
    for prefix in given:
        if prefix not in BY_OPTION:
            raise UnknownNameError("kind of option", prefix, known=BY_OPTION, next="correct it.")
    options = {
        prefix: _checked(plugins[kind.name], config.chosen(prefix), given.get(prefix, {}), of_run)
        for prefix, kind in BY_OPTION.items()
        if prefix not in unneeded
    }
    if {"labeler", "algo"} <= set(options):
        options["labeler"] = usable_labels(
            options, given, plugins, labeler=config.labeler, algorithm=config.algo
        )
    _check_validation(config)
    _check_one_budget(config)
    return config.model_copy(update={"options": options})


def _check_names(settings: Mapping[str, Any], plugins: Plugins) -> None:
    """Refuse a component that is chosen and does not exist."""
    for option, kind in BY_OPTION.items():
        if isinstance(name := settings.get(option), str) and name:
            plugins[kind.name].entry(name)


def _checked(kind: Components, name: str, given: Mapping[str, Any], of_run: bool) -> Options:
    """Check the options of a component; `of_run` says that a run wrote them, all that it had."""
    options = kind.check(name, given)
    if not (of_run and given):
        return options
    newer = {each: was for each, was in marked(options, "absent").items() if each not in given}
    return kind.check(name, {**given, **newer}) if newer else options


def _check_one_budget(config: RunConfig) -> None:
    if config.ipc is not None and config.budget_bytes is not None:
        raise OptionError(
            f"run.ipc = {config.ipc:g} and run.budget_bytes = {config.budget_bytes} are both set.",
            expected="one budget: pixels or bytes.",
            next="leave one out; of a file or preset unset it, for example -o run.ipc=none.",
        )


def _check_validation(config: RunConfig) -> None:
    """Refuse evaluations on a validation split that the settings leave empty, or none at all."""
    options = config.evaluate
    if options.every and not config.data.validation:
        raise OptionError(
            "evaluate.every asks for validation accuracies, but data.validation is 0.",
            expected="some training images kept for validation; test images select nothing.",
            next="pass -o data.validation=0.1, or -o evaluate.every=0.",
        )
    if options.select == "best" and not options.every:
        raise OptionError(
            "evaluate.select=best needs validation accuracies, but evaluate.every is 0.",
            expected="a number of outer steps between evaluations.",
            next="pass -o evaluate.every=50, for example.",
        )


def to_toml(config: RunConfig) -> str:
    """Write a configuration as TOML; reading it gives the same configuration."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))

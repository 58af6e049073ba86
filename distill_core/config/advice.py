"""Advice that components give through marks on their options, so that the core knows none by name.

An options model states a mark with `about(..., MARK=VALUE)`:

- `counts="inner_batch"`: an algorithm's option counts the synthetic images of an inner step;
- `counts="real_batch"`: it counts real images that an outer step takes together;
- `passes="synthetic"` or `"real"`: it cuts shuffled passes over such images, whose last batch may
  be smaller;
- `outer_rate="yes"`: it is a learning rate of an algorithm's outer optimizer;
- `advanced="yes"`: it is rarely needed, so `distill show` leaves it out unless it is asked for all;
- `fixes_labels=VALUE`: with this value, as users type it, a labeler's labels are not learned;
- `learns_labels=VALUE`: with this value an algorithm learns labels;
- `models=IMPORT_STRING`: it names one of many models; see `named_models.py`;
- `bounds_spikes=VALUE`: with this value, an algorithm bounds gradients of images that are too long;
- `bounds_label_spikes=VALUE`: it bounds those of labels;
- `needs=CONDITION`: it has an effect only beside another option; see `effects.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from distill_core.config.run_config import RunConfig
from distill_core.config.sections import SECTIONS
from registry import ContractError, EnvironmentFault, ExplainedError, OptionError
from registry.options import Options, marked

FAR = 20  # times a default
LARGE, SMALL = 2.0**31, 1e-30
ANY_NUMBER = {"seed"}


def counting(options: Options, what: str) -> list[str]:
    """Return the names of the options that count something, such as "inner_batch"."""
    return [name for name, counted in marked(options, "counts").items() if counted == what]


def at_most(options: Options, what: str, limit: int) -> int:
    """Return how many of something are taken together: what the options state, at most `limit`."""
    return min([limit, *(getattr(options, name) or limit for name in counting(options, what))])


def ways_to(effect: str, config: RunConfig) -> list[str]:
    """Return what to pass to the components of a run for an effect, such as "fixes_labels"."""
    return [
        f"-o {prefix}.{name}={value}"
        for prefix, options in config.options.items()
        for name, value in marked(options, effect).items()
        if str(getattr(options, name)).lower() != value  # it is not so already
    ]


def lowering(config: RunConfig, usual: str, *, of: Collection[str] = ()) -> str:
    """Return what lowers the memory that is needed.

    Args:
        config: the settings.
        usual: what usually does, if no option is out of all proportion.
        of: parts that take this memory, as "repr": their whole numbers are compared with their
            defaults.

    >>> from distill_core.builtin.representations.options import DdifOptions
    >>> config = RunConfig.model_construct(options={"repr": DdifOptions(width=5000)})
    >>> lowering(config, "lower --ipc.", of=["repr"])
    'lower -o repr.width=5000, or lower --ipc.'
    """
    found = [f"{name}={value}" for name, value in _extremes(config) if value >= LARGE]
    large = [f"-o {each}" for each in found or _far_above_defaults(config, of)]
    if not large:
        return usual
    return f"lower {' and '.join(large)}{'.' if found else f', or {usual}'}"


def _far_above_defaults(config: RunConfig, parts: Collection[str]) -> Iterator[str]:
    for part in parts:
        for name, value in config.options.get(part, ()):
            default = type(config.options[part]).model_fields[name].get_default() or 1
            whole = type(value) is int and isinstance(default, int)
            if whole and value >= FAR * default and value >= FAR**2:
                yield f"{part}.{name}={value}"


def extremes(config: RunConfig) -> list[str]:
    """Return the options whose numbers no computation expects, as users type them.

    >>> from distill_core.builtin.algorithms.matching.options import DmOptions
    >>> config = RunConfig.model_construct(options={"algo": DmOptions(pixel_lr=1e300)})
    >>> extremes(config)
    ['algo.pixel_lr=1e+300']
    """
    return [f"{name}={value}" for name, value in _extremes(config)]


def is_out_of_range(error: BaseException) -> bool:
    """Return whether a computation met a number that its type cannot hold."""
    explained = isinstance(error, ExplainedError)
    told = isinstance(error, (RuntimeError, ValueError)) and "without overflow" in str(error)
    return not explained and (told or isinstance(error, OverflowError))


@contextmanager
def in_range(config: RunConfig) -> Iterator[None]:
    """Name the options whose numbers cannot be computed with, if that fails inside this context.

    Raises:
        OptionError: in place of what Python and PyTorch say of such numbers.
        ExplainedError: another one that is raised inside, with such options in its advice.
    """
    try:
        yield
    except Exception as error:
        found = extremes(config)
        if found and is_out_of_range(error):
            raise _extreme(found, str(error)) from error
        if isinstance(error, ExplainedError) and not isinstance(error, EnvironmentFault):
            _suspect(found, error)
        raise


def _suspect(found: Sequence[str], error: ExplainedError) -> None:
    """Put options whose numbers are extreme before what an error advises, if it names none."""
    if found and not any(each.partition("=")[0] in str(error) for each in found):
        first = f"change -o {' and -o '.join(found)}, far from any default"
        error.next = f"{first}; or {error.next}" if error.next else f"{first}."


@contextmanager
def blaming_extremes(config: RunConfig, *prefixes: str) -> Iterator[None]:
    """Name the options whose numbers are extreme, before a component is said to be at fault.

    Args:
        config: the settings.
        prefixes: of the options of the components that are checked, as "repr".

    Raises:
        OptionError: in place of a `ContractError`, if there are such options.
    """
    try:
        yield
    except ContractError as error:
        found = [each for each in extremes(config) if each.startswith(tuple(prefixes))]
        if not found:
            raise
        raise _extreme(found, error.what.rstrip(".")) from error


def _extreme(found: Sequence[str], why: str) -> OptionError:
    return OptionError(
        f"nothing can be computed with {' and '.join(found)}: {why}.",
        expected="numbers of usual size; `distill show` tells the defaults.",
        next=f"change {' and '.join(f'-o {each}' for each in found)}.",
    )


def _extremes(config: RunConfig) -> Iterator[tuple[str, float]]:
    models = {
        "run": config,
        **{name: getattr(config, name) for name in SECTIONS if hasattr(config, name)},
        **config.options,
    }
    for prefix, options in models.items():
        for name, value in options:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and name not in ANY_NUMBER and value and not SMALL < abs(value) < LARGE:
                yield f"{prefix}.{name}", value

"""Advice that components give through marks on their options, so that the core knows none by name.

An options model states a mark with `about(..., MARK=VALUE)`:

- `counts="inner_batch"`: an algorithm's option counts the synthetic images of an inner step;
- `counts="real_batch"`: it counts real images that an outer step takes together;
- `passes="synthetic"` or `"real"`: it cuts shuffled passes over such images, whose last batch may
  be smaller;
- `fixes_labels=VALUE`: with this value, as users type it, a labeler's labels are not learned;
- `learns_labels=VALUE`: with this value an algorithm learns labels;
- `models=IMPORT_STRING`: it names one of many models; see `named_models.py`;
- `bounds_spikes=VALUE`: with this value, an algorithm bounds gradients far longer than usual.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distill_core.config.run_config import RunConfig
from distill_core.config.sections import SECTIONS
from registry import ExplainedError, OptionError
from registry.options import Options, marked


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


def lowering(config: RunConfig, usual: str) -> str:
    """Return what lowers the memory that is needed: an option that is out of all proportion, or
    else what usually does."""
    found = [f"{name}={value}" for name, value in _extremes(config) if value >= LARGE]
    return f"lower {' and '.join(f'-o {each}' for each in found)}." if found else usual


LARGE, SMALL = 2.0**31, 1e-30
ANY_NUMBER = {"seed"}


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
    """
    try:
        yield
    except Exception as error:
        found = extremes(config)
        if not found or not is_out_of_range(error):
            raise
        raise OptionError(
            f"nothing can be computed with {' and '.join(found)}: {error}.",
            expected="numbers of usual size; `distill show` tells the defaults.",
            next=f"change {' and '.join(f'-o {each}' for each in found)}.",
        ) from error


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

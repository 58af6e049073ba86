"""Advice that components give through marks on their options, so that the core knows none by name.

An options model states a mark with `about(..., MARK=VALUE)`:

- `counts="inner_batch"`: an algorithm's option counts the synthetic images of an inner step;
- `counts="real_batch"`: it counts real images that an outer step takes together;
- `fixes_labels=VALUE`: with this value, as users type it, a labeler's labels are not learned;
- `learns_labels=VALUE`: with this value an algorithm learns labels;
- `bounds_spikes=VALUE`: with this value, an algorithm bounds gradients far longer than usual.
"""

from __future__ import annotations

from distill_core.config.run_config import RunConfig
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
    ]

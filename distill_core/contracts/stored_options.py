"""Settings that every representation and every labeler has beside its own.

A plugin may have an option of such a name for something else. It wins, and the mark `shared` tells
apart whose it is.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from registry.options import Options, about, marked


class StoredOptions(Options):
    """In which type the numbers of a representation, or of a labeler, are stored."""

    stored: Literal["float32", "bfloat16", "uint8", "uint4", "uint2"] = Field(
        "float32",
        description="type in which the numbers are stored, and seen by all that trains on them; "
        "gradients pass straight through to float32 numbers, which are not part of the result",
        **about(source="Bengio et al. 2013 (arXiv:1308.3432), for the gradient", shared="yes"),
    )
    scales: Literal["channel", "tensor", "learned"] = Field(
        "channel",
        description="uint8, uint4 and uint2: levels are fitted to every channel (of other tensors "
        "than pixels: to every column) of at least 32 numbers, or to whole tensors; or those of "
        "channels are learned with the numbers, from the fit of the start",
        **about(
            source="learned: LSQ, Esser et al. 2020 (arXiv:1902.08153)",
            shared="yes",
            advanced="yes",
        ),
    )


def shared(options: Options) -> StoredOptions:
    """Return these settings of a component; the default where its plugin took the name."""
    names = marked(options, "shared")
    return StoredOptions(**{name: getattr(options, name) for name in names})

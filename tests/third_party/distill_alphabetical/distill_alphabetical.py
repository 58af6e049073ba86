"""Classes in alphabetical order."""

from pydantic import Field

from distill_core.plugin import Component, Options, hookimpl

DISTILL_API = "1.0"


class AlphabeticalOptions(Options):
    """Settings of `alphabetical`."""

    reverse: bool = Field(False, description="from Z to A")


class Alphabetical:
    """Puts the classes on the grid by name, row by row."""

    def __init__(self, options):
        self.reverse = options.reverse

    def order(self, real, grid_shape, *, generator):
        """Return the class grid."""
        import torch

        names = real.spec.class_names
        ranked = sorted(range(len(names)), key=names.__getitem__, reverse=self.reverse)
        return torch.tensor(ranked).reshape(grid_shape)


@hookimpl
def distill_orderers():
    """Offer the orderer."""
    return [Component("alphabetical", Alphabetical, AlphabeticalOptions, "classes by name")]

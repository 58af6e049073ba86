"""The contracts of representation, labeler, orderer and dataset.

Each says what a component is given and what it must give back. Algorithms are in `algorithm.py`,
backbones in `network.py`. No component knows another: they meet through `Layout`, `Boxes` and
`SyntheticDataset`. `distill_core.testing` checks each contract in one line.

Letters: n items, C channels, h w item, H W canvas, K classes, m cells, d features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from distill_core.contracts.data import RawData, RealData, Room, Sources
from distill_core.contracts.experts import Experts
from distill_core.contracts.geometry import Boxes, Layout, Placement
from distill_core.contracts.whitening import Whitening


class Representation(nn.Module, ABC):
    """Owns the synthetic pixels and turns them into training images.

    Made by `factory(options, spec=DataSpec, ipc=float | None)`, on the CPU; `ipc` is the pixel
    budget in images per class that the user asked for, None for the component's own default. A
    factory with a parameter `item_draws: int | None` is given that, too (see `DrawsItems`): how
    many items an inner loop draws, for a representation that chooses its number of items.
    Its parameters are the group "data"; without parameters, only labels can be learned.
    Stored numbers are counted from `state_dict()`, so an index table must be a non-persistent
    buffer.

    Attributes:
        layout: where its training images and class cells lie; fixed.
    """

    layout: Layout

    @abstractmethod
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Set the initial pixels, in place; all randomness comes from `generator`."""

    def use_whitening(self, whitening: Whitening) -> None:
        """Take the whitening of the data, if images are decoded with it; by default do nothing.

        Called in the place of `reset`, which has it from the real data, before a saved state is
        loaded to decode it. A whitening whose file is missing refuses when it is used.
        """
        del whitening

    @abstractmethod
    def expand(self, boxes: Boxes) -> Tensor:
        """Return the images at `boxes`: (n, C, h, w), differentiable in the parameters.

        Row i is the image of box i, whatever the other boxes are: they come in any order, and a box
        may come again. A box is found by its place, `canvas` and `yxyx`, since `item` is -1 where
        `draw` makes boxes that are not items.
        """

    @abstractmethod
    def canvases(self) -> Tensor:
        """Return every decoded canvas: (canvases, C, H, W), for pictures and the artefact."""

    def draw(self, index: Tensor, *, generator: Generator) -> Boxes:
        """Return boxes for the items `index` (n,). Override to draw boxes that are not items.

        These have -1 for `item`; a box with a number is that item.
        """
        del generator
        return self.layout.items[index]

    def penalty(self) -> Tensor | None:
        """Return a scalar whose gradient is added to every hypergradient; None for none.

        For a regulariser of the parameters that needs neither images nor networks.
        """
        return None

    def project(self) -> None:
        """Put the parameters back into their feasible set, in place, after an update."""
        return


class Labeler(nn.Module, ABC):
    """Gives labels to boxes, from its own parameters or from geometry.

    Made by `factory(options, placement=Placement)`, on the CPU. Its parameters are the group
    "labels"; a labeler without parameters has fixed labels. `start` may derive labels from the
    initial images of a run.

    Attributes:
        simplex: rows are >= 0 and sum to 1 after any update followed by `project()`.
    """

    simplex: ClassVar[bool] = True

    @abstractmethod
    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        """Return soft labels (n, K) on the device and in the dtype of `images` (n, C, h, w)."""

    def start(
        self,
        images: Tensor,
        *,
        real: RealData,
        experts: Experts,
        tell: Callable[[str], None],
    ) -> None:
        """Set labels that depend on the initial images, in place; by default do nothing.

        Called once per run, on the CPU, right after `Representation.reset`. A resumed run loads
        `state_dict()` instead, so what is set here must be part of it, with shapes known before.
        The cost of a run is predicted without this call, so labels must be valid without it.

        Args:
            images: (n, C, h, w) of all items; must not be changed.
            real: the real data, on the device.
            experts: networks trained on them, made when needed.
            tell: is told of slow work before it starts.
        """
        del images, real, experts, tell

    def project(self) -> None:
        """Put the parameters back into their feasible set, in place, after an update."""
        return


class InStoredType(nn.Module):
    """A representation or labeler that is stored in a type of fewer bits.

    Attributes:
        inner: the component, whose numbers are stored.
        levels: scales of the type, if they are learned; they are counted in bytes alone.
    """

    inner: nn.Module
    levels: nn.ParameterDict


@runtime_checkable
class Orderer(Protocol):
    """Decides which class sits where. Made by `factory(options)`; runs once, owns nothing.

    It may have an attribute `notes`, a mapping of text to text that `order` fills and the run
    records (which similarity was used, and why), and an attribute `distances`, (K, K) float64: the
    distances between classes that `order` used, for comparing orders.
    """

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        """Return the class grid: `grid_shape` int64, a permutation of the classes.

        It may look at `real.train` and `real.validation`, never at `real.test`.
        """
        ...


@runtime_checkable
class Dataset(Protocol):
    """Real images. Made by `factory(options)`; nothing is read before `load`.

    It may have a method `outline()` that returns the `DataSpec` of `load` without reading anything,
    for `distill bench`; its class names may be invented.
    """

    def load(self) -> RawData:
        """Read everything. A missing or unusable file raises `InputError` naming it."""
        ...


@runtime_checkable
class KeptDataset(Dataset, Protocol):
    """A dataset whose images are kept once they are read: mapped into memory, they need no reading.

    Images that do not fit into memory are of such datasets.
    """

    def sources(self) -> Sources:
        """Say what `load` reads, without reading it."""
        ...

    def load_into(self, room: Room) -> RawData:
        """As `load`, which is `load_into(Room())`: all images lie in tensors that `room` gave."""
        ...

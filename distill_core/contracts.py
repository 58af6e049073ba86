"""The contracts: what each kind of component is given and what it must give back.

Four kinds make a distillation (representation, labeler, orderer, algorithm), two supply what it
works on (dataset, backbone). No component knows another: they meet through `Layout`, `Boxes`
and `SyntheticDataset`. `distill_core.testing` checks each contract in one line.

Letters: n items, C channels, h w item, H W canvas, K classes, m cells, d features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from distill_core.geometry import Boxes, Layout, Placement
from distill_core.recipe import Recipe

if TYPE_CHECKING:
    from distill_core.data import RawData, RealData
    from distill_core.experts_store import Experts
    from distill_core.hypergradient.engine import Engine
    from distill_core.streams import Streams
    from distill_core.synthetic import SyntheticDataset


class Representation(nn.Module, ABC):
    """Owns the synthetic pixels and turns them into training images.

    Made by `factory(options, spec=DataSpec, ipc=float | None)`, on the CPU; `ipc` is the pixel
    budget in images per class that the user asked for, None for the component's own default.
    Its parameters are the group "data"; one that has none leaves nothing to learn but labels.
    Stored numbers are counted from `state_dict()`, so an index table must be a non-persistent
    buffer.

    Attributes:
        layout: where its training images and class cells lie; fixed.
    """

    layout: Layout

    @abstractmethod
    def reset(self, placement: Placement, real: RealData, *, generator: Generator) -> None:
        """Set the starting pixels, in place; all randomness from `generator`."""

    @abstractmethod
    def expand(self, boxes: Boxes) -> Tensor:
        """Return the images at `boxes`: (n, C, h, w), differentiable in the parameters."""

    @abstractmethod
    def canvases(self) -> Tensor:
        """Return every canvas decoded: (canvases, C, H, W), for pictures and the artefact."""

    def draw(self, index: Tensor, *, generator: Generator) -> Boxes:
        """Return boxes for the items `index` (n,). Override to draw boxes that are no items."""
        del generator
        return self.layout.items[index]

    def project(self) -> None:
        """Put the parameters back into their feasible set, in place, after an update."""
        return


class Labeler(nn.Module, ABC):
    """Gives labels to boxes, from parameters of its own or from geometry.

    Made by `factory(options, placement=Placement)`, on the CPU. Its parameters are the group
    "labels"; a labeler without parameters has fixed labels. Labels may follow from the images that
    a run starts with, by `start`.

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
        """Set the labels that follow from the starting images, in place; by default none do.

        Called once in a run, on the CPU, right after `Representation.reset`. A run that goes on
        loads `state_dict()` instead, so what is set here belongs there, in shapes that are known
        before. The cost of a run is predicted without it: labels must be valid without it, too.

        Args:
            images: (n, C, h, w) of all items; they stay as they are.
            real: the real data, on the device.
            experts: networks trained on them, made when they are needed.
            tell: is told of what takes long, before.
        """
        del images, real, experts, tell

    def project(self) -> None:
        """Put the parameters back into their feasible set, in place, after an update."""
        return


@runtime_checkable
class Orderer(Protocol):
    """Decides which class sits where. Made by `factory(options)`; runs once, owns nothing.

    It may have an attribute `notes`, a mapping of text to text that is filled by `order` and
    recorded with the run (which similarity was used, and why), and an attribute `distances`,
    (K, K) float64: the distances between classes that `order` went by, to compare orders with.
    """

    def order(self, real: RealData, grid_shape: tuple[int, int], *, generator: Generator) -> Tensor:
        """Return the class grid: `grid_shape` int64, a permutation of the classes."""
        ...


@dataclass(frozen=True)
class Task:
    """What an algorithm may know besides the synthetic dataset.

    Attributes:
        real: the real data, on the device.
        new_backbone: makes a freshly initialised network on the device, in training mode.
        engine: differentiates the inner loss of such networks.
        experts: trajectories of such networks on the real data, made when they are needed; None
            where there are none to be had.
    """

    real: RealData
    new_backbone: Callable[[Generator], Backbone]
    engine: Engine
    experts: Experts | None = None


@dataclass(frozen=True)
class Estimate:
    """Cost of one outer step.

    Attributes:
        seconds: expected wall-clock seconds.
        memory: expected peak of memory that the step itself needs, bytes.
        measured: one sentence: what was run to find out.
        phases: parts of `seconds` by name; empty where they are not known.
        retained: part of `memory` that holds activations of differentiated steps, bytes.
        trial: what `memory` was in the steps that were run, before it was extrapolated, bytes;
            None where nothing was.
    """

    seconds: float
    memory: int
    measured: str
    phases: Mapping[str, float] = field(default_factory=dict)
    retained: int = 0
    trial: int | None = None

    @property
    def counted(self) -> int:
        """Bytes that were counted in the steps that were run."""
        return self.memory if self.trial is None else self.trial


class Algorithm(ABC):
    """Finds a hypergradient for a synthetic dataset. Made by `factory(options, task=Task)`.

    Attributes:
        needs_simplex: it can only use labels that are distributions over classes.
        learns: it trains something. Otherwise a run makes no outer step: what the representation
            starts with is saved and judged, and neither `outer_optimizer` nor `outer_step` is
            called.
        learns_labels: it sends labels a hypergradient. Otherwise a labeler with parameters is
            refused before any work. May depend on the options.
    """

    needs_simplex: ClassVar[bool] = True
    learns: ClassVar[bool] = True
    learns_labels: bool = True

    @abstractmethod
    def outer_optimizer(self, groups: Mapping[str, Sequence[nn.Parameter]]) -> Optimizer:
        """Return the outer optimizer over the groups "data", "labels" and "algorithm"."""

    @abstractmethod
    def outer_step(
        self, synthetic: SyntheticDataset, *, step: int, rng: Streams
    ) -> Mapping[str, float]:
        """Leave a hypergradient in `.grad` of every group that it trains; return metrics.

        It must not step the optimizer, project, zero gradients or save anything. Every draw
        comes from `rng`. Metrics must contain "loss", the outer loss.

        Raises:
            DivergenceError: it can find no hypergradient, since numbers have gone bad.
        """

    @abstractmethod
    def recipe(self) -> Recipe:
        """Return how a network is to be trained on the result."""

    def meta_parameters(self) -> Sequence[nn.Parameter]:
        """Return scalars that the algorithm learns (group "algorithm"), on the device."""
        return ()

    def default_ema(self) -> float | None:
        """Return the decay of the moving average where `run.ema` says nothing; None for none."""
        return None

    def prepare(self, tell: Callable[[str], None]) -> None:
        """Do what takes long before the first outer step, and tell how it goes.

        Called once in a run, after everything was checked; `outer_step` must do without, too.
        """
        del tell

    def estimate(self, synthetic: SyntheticDataset, *, rng: Streams) -> Estimate | None:
        """Predict the cost of one outer step without doing one; None if it cannot."""
        del synthetic, rng
        return None

    def notes(self) -> Mapping[str, str]:
        """Return what the algorithm decided itself, for the console and the record."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that must survive between outer steps: tensors, numbers, text."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        if state:
            raise ValueError(f"{type(self).__name__} saves no state but was given some")


@runtime_checkable
class Dataset(Protocol):
    """Real images. Made by `factory(options)`; nothing is read before `load`.

    It may have a method `outline()` that returns a `DataSpec` without reading anything, for
    `distill bench`: that of `load`, but that class names may be made up.
    """

    def load(self) -> RawData:
        """Read everything. A missing or unusable file raises `InputError` naming it."""
        ...


class ConvLayer(NamedTuple):
    """Names of a block's parameters: 3x3 convolution, and the norm's scale and shift."""

    weight: str
    norm_weight: str
    norm_bias: str


@dataclass(frozen=True)
class ConvBlocks:
    """A network that the engine has kernels for: blocks of 3x3 convolution, instance norm, ReLU and
    2x2 mean, all of stride 1 and padding 1, then the head, with a bias, on what is left, flattened.
    The norm's epsilon is PyTorch's own, 1e-5.

    Attributes:
        layers: the blocks, from the images on.
        padding: of the first convolution, which may be larger.
        last_hw: height and width before the head.
    """

    layers: tuple[ConvLayer, ...]
    padding: int
    last_hw: tuple[int, int]


class Backbone(nn.Module, ABC):
    """A network as features and a last linear layer.

    Made by `factory(options, spec=DataSpec)`; PyTorch's layers draw their initial weights from
    global state, so always make one through `new_backbone`.

    Attributes:
        head: the last layer, d features to K logits.
    """

    head: nn.Linear

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Return features (n, d) of images (n, C, h, w)."""

    def conv_blocks(self) -> ConvBlocks | None:
        """Return the network's structure if it is nothing but `ConvBlocks` and `head`, else None.

        The engine then differentiates it by its own kernels, which know nothing else: a network
        that returns a structure must compute just what that says.
        """
        return None

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, K)."""
        logits: Tensor = self.head(self.embed(images))
        return logits

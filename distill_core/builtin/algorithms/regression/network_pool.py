"""A pool of networks that train on the synthetic data while it is being learned.

Which member an outer step uses, and when it is trained, is the algorithm's business; a pool keeps
the networks, their optimizers and their ages, and puts fresh ones in the place of old ones.

Source: Zhou et al. 2022 (FRePo, arXiv:2206.00719), model pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.checkpoint import checkpoint

from distill_core.builtin.algorithms.regression.kernel_regression import squared_error, widened
from distill_core.plugin import Adam, AdamState, Backbone, Engine


class OnlineNetwork:
    """A network, its optimizer, and how many updates old it counts as.

    Its features are those of evaluation mode (batch normalisation by running statistics, as
    published); it is trained in training mode.

    Args:
        backbone: fresh; changed in place.
        optimizer: of its online updates.
        age: what it starts with; at the start of a pool, ages are staggered.
        engine: works out features.
    """

    def __init__(self, backbone: Backbone, optimizer: Adam, *, age: int, engine: Engine) -> None:
        self.backbone = backbone
        self._features = engine.features(backbone)
        self.age = age
        self._optimizer = optimizer
        self._trained = [p for p in backbone.parameters() if p.requires_grad]
        self._moments = optimizer.init(self._flat([p.detach() for p in self._trained]))

    def embed(self, images: Tensor, *, chunk: int | None = None) -> Tensor:
        """Return features (n, d) of images (n, C, h, w); carries their gradient.

        Args:
            images: with a graph, or under `no_grad`.
            chunk: images at a time; with a graph, each chunk is computed again on the way back,
                so that memory is that of one. None for all at once.
        """
        self.backbone.eval()
        if chunk is None or chunk >= len(images):
            return self._features(images)
        pieces = torch.split(images, chunk)
        if not torch.is_grad_enabled():
            return torch.cat([self._features(piece) for piece in pieces])
        return torch.cat([self._embed_again(piece) for piece in pieces])

    def train(self, images: Tensor, targets: Tensor, *, chunk: int | None = None) -> Tensor:
        """Do one update on the squared error of the logits; return the error before it, a scalar.

        Args:
            images: (n, C, h, w), without a graph.
            targets: (n, K).
            chunk: images at a time, None for all; exact unless the network mixes images.
        """
        self.backbone.train()
        gradient, size = torch.zeros_like(self._moments.first), chunk or len(images)
        total = widened(gradient.new_zeros(()))
        pieces = zip(torch.split(images, size), torch.split(targets, size), strict=True)
        for part, wanted in pieces:
            with torch.enable_grad():
                logits = self.backbone.head(self._features(part))
                error = squared_error(logits, wanted) * (len(part) / len(images))
                found = torch.autograd.grad(error, self._trained, materialize_grads=True)
            gradient += self._flat(found)
            total += error.detach()
        theta = self._flat([p.detach() for p in self._trained])
        moved, self._moments = self._optimizer.update(
            theta, gradient, self._moments, self._optimizer.lr
        )
        with torch.no_grad():
            parts = torch.split(moved, [p.numel() for p in self._trained])
            for parameter, part in zip(self._trained, parts, strict=True):
                parameter.copy_(part.view_as(parameter))
        self.age += 1
        return total

    def num_bytes(self) -> int:
        """Return the bytes of weights and moments."""
        moments = (self._moments.first, self._moments.second)
        tensors = (*self.backbone.state_dict().values(), *moments)
        return int(sum(tensor.nbytes for tensor in tensors))

    def state_dict(self) -> dict[str, Any]:
        """Return weights, running statistics, moments and age."""
        return {
            "age": self.age,
            "backbone": dict(self.backbone.state_dict()),
            "moments": list(self._moments),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.age = state["age"]
        self.backbone.load_state_dict(state["backbone"])
        first, second, step = state["moments"]
        self._moments = AdamState(
            first.to(self._moments.first, copy=True),
            second.to(self._moments.second, copy=True),
            step,
        )

    def _embed_again(self, images: Tensor) -> Tensor:
        features: Tensor = checkpoint(
            self._features, images, use_reentrant=False, preserve_rng_state=False
        )
        return features

    @staticmethod
    def _flat(parts: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
        return torch.cat([part.reshape(-1) for part in parts])


class NetworkPool:
    """Networks of different ages.

    Empty until `fill`, since networks need a generator.

    Args:
        make: makes a fresh network from a generator.
        optimizer: of the online updates.
        size: how many networks.
        max_age: updates after which a network's place is given to a fresh one.
        engine: works out features.

    Attributes:
        members: the networks.
    """

    def __init__(
        self,
        make: Callable[[Generator], Backbone],
        *,
        optimizer: Adam,
        size: int,
        max_age: int,
        engine: Engine,
    ) -> None:
        self.members: list[OnlineNetwork] = []
        self._make = make
        self._optimizer = optimizer
        self._size = size
        self._max_age = max_age
        self._engine = engine

    def __str__(self) -> str:
        rate = self._optimizer.lr
        return f"{self._size} networks, fresh after {self._max_age} updates at {rate:g}"

    def fill(self, generator: Generator) -> None:
        """Make all networks, if there are none: fresh ones, that count as of different ages.

        Their places will be given away at different times; no weights are older than others.
        """
        if not self.members:
            self.members = [
                self.fresh(generator, age=place * self._max_age // self._size)
                for place in range(self._size)
            ]

    def fresh(self, generator: Generator, *, age: int = 0) -> OnlineNetwork:
        """Return a new network, which is not put into the pool."""
        return OnlineNetwork(self._make(generator), self._optimizer, age=age, engine=self._engine)

    def replace_if_old(self, place: int, generator: Generator) -> None:
        """Put a fresh network into a place whose network has had its updates."""
        if self.members[place].age >= self._max_age:
            self.members[place] = self.fresh(generator)

    def coming_bytes(self, like: OnlineNetwork) -> int:
        """Return the bytes of what is not there yet while a step runs, if networks are like one:
        those that `fill` has yet to make, and the outer loop's copy of all, against a failing step.
        """
        return (2 * self._size - len(self.members)) * like.num_bytes()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of every network."""
        return [member.state_dict() for member in self.members]

    def load_state_dict(self, state: list[Mapping[str, Any]]) -> None:
        """Continue where `state_dict` was taken."""
        self.members = []
        for part in state:
            member = self.fresh(Generator().manual_seed(0))  # every number is replaced
            member.load_state_dict(part)
            self.members.append(member)

"""The cache of expert trajectories: one file per expert, made when it is missing.

The folder's name is a digest of everything experts depend on, so experts of other data, networks
or recipes are never mixed up. A file is written whole or not at all: making experts can stop at any
time, and continues with the missing ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from distill_core.contracts.data import RealData
from distill_core.contracts.derivatives import InnerLoss
from distill_core.contracts.experts import ExpertRecipe
from distill_core.contracts.network import FlatModel
from distill_core.contracts.streams import Streams
from distill_core.contracts.transfer import all_to_device
from distill_core.data.augment import Augmentation
from distill_core.engine.engine import mixes_images
from distill_core.system.arithmetic import full_precision
from distill_core.system.cached_tensors import (
    DIGESTS,
    LOG,
    Misfit,
    keep_tensors,
    kept_tensors,
    made_anew,
)
from distill_core.system.files import read_tensors
from distill_core.system.units import QUIET_SECONDS, duration, size_text
from distill_core.training.experts import direction, real_batch, train_expert
from registry import InputError

if TYPE_CHECKING:
    from distill_core.contracts.network import Backbone
    from distill_core.engine.engine import Engine

CHUNK = 256  # images that an expert is applied to at a time
FORMAT = 1  # raised when the same recipe makes different experts
Tell = Callable[[str], None]


class Experts:
    """The expert trajectories of one network on one dataset.

    Args:
        real: the data.
        new_backbone: makes a freshly initialised network.
        engine: differentiates its loss. Kernels and autograd differ by rounding only; experts are
            always trained in full precision.
        backbone: a description of the network, as JSON values.
        seed: of all experts; each expert has its own streams.
        folder: where they are kept; None: in memory.
    """

    def __init__(
        self,
        real: RealData,
        new_backbone: Callable[[Generator], Backbone],
        engine: Engine,
        *,
        backbone: Mapping[str, Any],
        seed: int,
        folder: Path | None,
    ) -> None:
        self.real, self.seed, self.folder = real, seed, folder
        self._new_backbone = new_backbone
        self._engine = replace(engine, precision=None)
        self._backbone = dict(backbone)
        self._memory: dict[tuple[str, int], Tensor] = {}
        self._told = False

    def prepare(self, recipe: ExpertRecipe, count: int, *, epochs: int, tell: Tell) -> None:
        """Make the missing ones of the experts 0 to count - 1.

        Several processes share the work: each starts at another expert, and skips what others have
        made.

        Args:
            recipe: how they are trained.
            count: number of experts.
            epochs: epochs of training, at least.
            tell: is told disk space and time before the start, and progress.
        """
        missing = [index for index in range(count) if self._stored(recipe, index) < epochs]
        if not missing:
            return
        size = (epochs + 1) * self._parameters * 4
        tell(
            f"experts  {count - len(missing)} of {count} are there; {len(missing)} to make, "
            f"{epochs} epochs each: about {duration(len(missing) * self._seconds(recipe, epochs))} "
            f"and {size_text(len(missing) * size)} in {self._place(recipe)}"
        )
        start = os.getpid() % len(missing)
        begin = shown = time.monotonic()
        for done, index in enumerate(missing[start:] + missing[:start], 1):
            if self._stored(recipe, index) < epochs:
                self._make(recipe, index, epochs)
            now = time.monotonic()
            if done == len(missing) or now - shown > QUIET_SECONDS:
                shown = now
                left = (now - begin) / done * (len(missing) - done)
                tell(f"experts  {done}/{len(missing)}  {duration(left)} left")

    def snapshots(
        self, recipe: ExpertRecipe, index: int, epochs: Sequence[int], *, until: int
    ) -> list[Tensor]:
        """Return an expert's parameters after the given epochs, each (P,) float32 on the device.

        Args:
            recipe: how it is trained.
            index: its number, from 0.
            epochs: numbers of epochs; 0 is the start.
            until: epochs of training, if it has to be made first.

        What is in its file but is not the expert is made anew, which the user is told.

        Raises:
            InputError: its training diverges.
        """
        assert max(epochs) <= until
        if self._stored(recipe, index) < until:
            self._make(recipe, index, until)
        if self.folder is None:
            found = [self._memory[self._key(recipe), index][epoch].clone() for epoch in epochs]
        else:
            found = self._read(recipe, index, epochs, until)
        return all_to_device(found, self.real.train.labels.device)

    @torch.no_grad()
    def logits(
        self, recipe: ExpertRecipe, index: int, epochs: int, images: Tensor, *, tell: Tell
    ) -> Tensor:
        """Return an expert's logits on images, in evaluation mode.

        Args:
            recipe: how it is trained.
            index: its number, from 0. If it is missing, it is made, after those before it.
            epochs: epochs of training.
            images: (n, C, h, w), whitened, on any device.
            tell: as in `prepare`.

        Returns:
            (n, K) on the device of the images.

        Raises:
            InputError: the network's output for an image depends on the others of its batch.
        """
        network = self._new_backbone(Streams(self.seed, "expert", index)["backbone"]).eval()
        if mixes_images(network):
            raise InputError(
                "experts of this network cannot be applied to images: its batch normalisation has "
                "only the statistics of training batches.",
                expected="a network that processes every image independently.",
                next="use another norm, such as -o backbone.norm=instance, or another --backbone.",
            )
        self.prepare(recipe, index + 1, epochs=epochs, tell=tell)
        (theta,) = self.snapshots(recipe, index, [epochs], until=epochs)
        model = FlatModel(network)
        parts = [model.logits(theta, part.to(theta)) for part in torch.split(images, CHUNK)]
        return torch.cat(parts).to(images)

    def _read(
        self, recipe: ExpertRecipe, index: int, epochs: Sequence[int], until: int
    ) -> list[Tensor]:
        """Read parameters from the file of an expert that has one."""
        path, key = self._path(recipe, index), {**self._record(recipe), "index": index}
        names = [_name(epoch) for epoch in epochs]
        shapes = dict.fromkeys(names, (self._parameters,))
        try:
            found = kept_tensors(
                path, key, shapes, others=["epochs"], without_digests=self._without_digests
            )
            return [found[name] for name in names]
        except (Misfit, FileNotFoundError) as misfit:
            gone = isinstance(misfit, FileNotFoundError)
            made_anew(path, "is gone" if gone else str(misfit))
        made = self._make(recipe, index, until)
        return [made[epoch].clone() for epoch in epochs]

    def _without_digests(self) -> None:
        """Tell once that experts of an earlier version, which may have taken hours, are taken."""
        if not self._told:
            self._told = True
            LOG.warning("cache    experts in %s have no digests, since an earlier version made "
                        "them: they are taken as they are", self.folder)  # fmt: skip

    def _make(self, recipe: ExpertRecipe, index: int, epochs: int) -> Tensor:
        """Train an expert and keep it; return its parameters after each epoch."""
        if self.folder and self._stored(recipe, index) < 0:
            path = self._path(recipe, index)
            if path.exists():
                made_anew(path, "is not a whole file of this expert")
        rng = Streams(self.seed, "expert", index)
        with full_precision():  # kept for other runs: no setting of this run may matter
            made = train_expert(self._loss(rng), self.real, recipe, epochs=epochs, rng=rng)
        if not bool(torch.isfinite(made).all()):
            raise InputError(
                f"expert {index} cannot be used: its training with learning rate {recipe.lr:g} "
                "diverged.",
                expected="a network that learns the real data.",
                next=f"lower -o algo.expert_lr, for example to {recipe.lr / 10:g}; with --labeler "
                "teacher it is -o labeler.lr.",
            )
        if self.folder is None:
            self._memory[self._key(recipe), index] = made
            return made
        path = self._path(recipe, index)
        tensors = {_name(epoch): each for epoch, each in enumerate(made)}
        keep_tensors(path, tensors, {**self._record(recipe), "index": index, "epochs": epochs})
        return made

    def _stored(self, recipe: ExpertRecipe, index: int) -> int:
        """Epochs of a stored expert; -1 if none can be read."""
        if self.folder is None:
            return len(self._memory.get((self._key(recipe), index), ())) - 1
        try:
            _, record = read_tensors(self._path(recipe, index), ())
        except InputError:
            return -1
        epochs, _ = record.pop("epochs", -1), record.pop(DIGESTS, None)
        ours = record == {**self._record(recipe), "index": index}
        return epochs if ours and type(epochs) is int else -1

    @cached_property
    def _parameters(self) -> int:
        """Number of parameters of the network."""
        return self._loss(Streams(self.seed)).model.theta.numel()

    def _loss(self, rng: Streams) -> InnerLoss:
        return self._engine.loss(self._new_backbone(rng["backbone"]))

    def _seconds(self, recipe: ExpertRecipe, epochs: int) -> float:
        """Expected seconds per expert, measured on its second step; the first step sets up."""
        rng, took = Streams(self.seed), 0.0
        loss, count = self._loss(rng), len(self.real.train)
        augmentation = Augmentation.named(recipe.augment, self.real.spec.augmentations)
        theta = loss.model.theta
        for _ in range(2):
            begin = time.perf_counter()
            index = torch.arange(min(recipe.batch, count))
            batch = real_batch(self.real, index, augmentation, rng["augment"], theta.dtype)
            float(direction(loss, theta, batch, recipe)[0])  # waits for the device
            took = time.perf_counter() - begin
        return took * epochs * count / min(recipe.batch, count)

    def _record(self, recipe: ExpertRecipe) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "data": self.real.fingerprint,
            "backbone": self._backbone,
            "recipe": recipe.model_dump(mode="json"),
            "seed": self.seed,
        }

    def _key(self, recipe: ExpertRecipe) -> str:
        text = json.dumps(self._record(recipe), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def _place(self, recipe: ExpertRecipe) -> str:
        return str(self.folder / self._key(recipe)) if self.folder else "memory"

    def _path(self, recipe: ExpertRecipe, index: int) -> Path:
        assert self.folder is not None
        return self.folder / self._key(recipe) / f"{index:04d}.safetensors"


def _name(epoch: int) -> str:
    return f"epoch.{epoch}"

"""Which data these are: what tells one set of real images from another, wherever it lies.

A run keeps the identity of its data in its checkpoint. What goes on with the run, or judges it,
compares it with the identity of the images that it has read, before they are whitened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, bincount

from distill_core.config.sections import DataOptions
from distill_core.contracts.data import DataSpec, RawData, RealData
from distill_core.data.image_chunks import image_chunks
from distill_core.system.units import shortened
from registry import InputError

SHOWN = 3  # classes that a message names


@dataclass(frozen=True)
class Identity:
    """What tells one set of real images from another.

    Attributes:
        fingerprint: as of `RealData`: the raw bytes, the names, how they are split and whitened.
        class_names: K names, in label order.
        train: training and validation images of each class; empty: not known.
        test: test images of each class; empty: not known.
    """

    fingerprint: str
    class_names: tuple[str, ...]
    train: tuple[int, ...] = ()
    test: tuple[int, ...] = ()

    @staticmethod
    def of(real: RealData) -> Identity:
        """Return the identity of data that a run uses."""
        names = real.spec.class_names
        trained, kept, tested = (
            _counts(part.labels, len(names)) for part in (real.train, real.validation, real.test)
        )
        both = tuple(a + b for a, b in zip(trained, kept, strict=True))
        return Identity(real.fingerprint, names, both, tested)

    @staticmethod
    def of_raw(raw: RawData, options: DataOptions, seed: int) -> Identity:
        """Return the identity that raw images will have once they are prepared."""
        names = raw.spec.class_names
        train, test = (
            _counts(labels, len(names)) for labels in (raw.train_labels, raw.test_labels)
        )
        return Identity(fingerprint(raw, options, seed), names, train, test)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        return {name: _plain(value) for name, value in vars(self).items()}

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> Identity:
        """Read what `as_dict` returned."""
        return Identity(
            str(state["fingerprint"]),
            *(tuple(state[name]) for name in ("class_names", "train", "test")),
        )

    def refuse_other(self, found: Identity, *, whose: str, elsewhere: str = "") -> None:
        """Refuse data that are not these.

        Args:
            found: the identity of the data that were read.
            whose: the run that has used these, for the message.
            elsewhere: how to name another place of the data; empty: there is no option for it.

        Raises:
            InputError: saying what differs: classes, counts of images, or only the content.
        """
        if found.fingerprint == self.fingerprint:
            return
        what = "; ".join(_differences(self, found)) or (
            "some of the images are others, or they are read, split or whitened otherwise"
        )
        raise InputError(
            f"the data of {whose} have changed since the run: {what} (fingerprint "
            f"{found.fingerprint[:12]}...).",
            expected=f"{self.fingerprint[:12]}..., the data, split and whitening of the run.",
            next="restore the data of the run, "
            + (f"name the place where they are now with {elsewhere}, " if elsewhere else "")
            + "or start a new run with these.",
        )


def fingerprint(raw: RawData, options: DataOptions, seed: int) -> str:
    """Return a digest of everything that the prepared data depend on."""
    # Where float32 images are kept makes no others, and fingerprints in old artefacts do not say.
    settings = options.model_dump_json(
        exclude=None if options.storage == "float16" else {"storage"}
    )
    return _digest(raw, f"{_facts(raw.spec)}{settings}{seed}")


def _facts(spec: DataSpec) -> str:
    """The text that fingerprints are made of, of the fields that version 0.1 had: another field
    must not change the fingerprints of data that are the same."""
    names = ("name", "class_names", "image_shape", "augmentations")
    return f"DataSpec({', '.join(f'{name}={getattr(spec, name)!r}' for name in names)})"


def content(raw: RawData) -> str:
    """Return a digest of the names, images and labels alone, the same for every seed."""
    return _digest(raw, json.dumps(raw.spec.class_names))


def _digest(raw: RawData, start: str) -> str:
    question = f"digest from {hashlib.sha256(start.encode()).hexdigest()}"
    return str(raw.known(question, lambda: _found_digest(raw, start)))


def _found_digest(raw: RawData, start: str) -> str:
    digest = hashlib.sha256(start.encode())
    for tensor in (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels):
        digest.update(str(tuple(tensor.shape)).encode())
        for part in image_chunks(tensor) if tensor.dim() == 4 else [tensor]:
            digest.update(part.contiguous().flatten().numpy().data)
    return digest.hexdigest()


def _differences(old: Identity, new: Identity) -> Iterable[str]:
    gone = [name for name in old.class_names if name not in {*new.class_names}]
    more = [name for name in new.class_names if name not in {*old.class_names}]
    if gone:
        yield f"{_classes(gone)} {'is' if len(gone) == 1 else 'are'} gone"
    if more:
        yield f"{_classes(more)} {'is' if len(more) == 1 else 'are'} new"
    if gone or more:
        return
    if old.class_names != new.class_names:
        yield "the classes are in another order"
        return
    for part, before, after in (("training", old.train, new.train), ("test", old.test, new.test)):
        changed = [
            f"class '{name}' has {b} {part} images, not {a}"
            for name, a, b in zip(old.class_names, before, after, strict=False)
            if a != b
        ]
        yield from changed[:SHOWN]
        if len(changed) > SHOWN:
            yield f"and {len(changed) - SHOWN} more"


def _classes(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return f"{'class' if len(names) == 1 else 'classes'} {shortened(quoted, SHOWN)}"


def _counts(labels: Tensor, num_classes: int) -> tuple[int, ...]:
    return tuple(bincount(labels.cpu(), minlength=num_classes).tolist())


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value

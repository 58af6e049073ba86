"""Writing the artefact of a run: its files as one set, each only if its content is new."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distill_core import __version__
from distill_core.artefact.artefact import ARTEFACT_FORMAT, file_sha256, whitening_header
from distill_core.artefact.contents import CONFIG, DISTILLED, MANIFEST, STORED, WHITENING
from distill_core.artefact.count_storage import storage_of
from distill_core.artefact.last_set import keep, release
from distill_core.artefact.manifest import MANIFEST_FORMAT
from distill_core.artefact.packing import how_to_load, to_tensors
from distill_core.artefact.pictures import pictures
from distill_core.artefact.stored_file import has_stored_file, stored_bytes
from distill_core.contracts.data import RealData
from distill_core.contracts.recipes import Recipe
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.system.files import cannot_write, tensor_bytes, write_atomically

Stamp = tuple[int, int, int]


class ArtefactWriter:
    """Writes the artefact of a run into its directory, every time the run is saved.

    Args:
        run_dir: the run directory; files of an earlier state are replaced.
        real: supplies whitening and facts about the data.
        before_save: called before every save; raises if the run directory is not ours any more.
    """

    def __init__(
        self, run_dir: Path, real: RealData, *, before_save: Callable[[], None] = lambda: None
    ) -> None:
        self.run_dir, self.real, self.before_save = run_dir, real, before_save
        self._sha256: dict[str, str] = {}  # of the files that this process has written
        self._stamps: dict[str, Stamp] = {}  # what each of them was like then

    def save(
        self, synthetic: SyntheticDataset, *, recipe: Recipe, manifest: Mapping[str, Any]
    ) -> None:
        """Write the files whose content is new, manifest.json last.

        Until that one is written, readers find the set before it; see `last_set.py`.

        Args:
            synthetic: what was distilled.
            recipe: how networks are to be trained on it.
            manifest: the record of the run; "components" and "made_with" are copied into the
                tensors' metadata, and "format" and "files" are added.

        Raises:
            EnvironmentFault: a file cannot be written.
        """
        self.before_save()
        real, whitening = self.real, self.real.whitening
        if not self._is_written(WHITENING):  # large for ZCA, and the same for the whole run
            self._write_whitening()
        storage = storage_of(synthetic, whitening)
        facts = {
            **_facts(synthetic, recipe),
            "components": manifest.get("components", {}),
            "dataset_fingerprint": real.fingerprint,
            "whitening": {
                "kind": whitening.kind,
                "file": WHITENING,
                "sha256": self._sha256[WHITENING],
            },
            "storage": storage.as_dict(),
        }
        if has_stored_file(synthetic, storage):
            made_with = manifest.get("made_with")
            self._write(STORED, stored_bytes(synthetic, {**facts, "made_with": made_with}))
            self._remove(DISTILLED)  # of an earlier version, which wrote both
        else:
            tensors, same = to_tensors(synthetic)
            metadata = {**facts, "how_to_load": how_to_load(tensors), "same": same}
            self._write(DISTILLED, tensor_bytes(tensors, metadata))
        for name, data in pictures(synthetic, real).items():
            self._write(name, data)
        files = dict(self._sha256)
        if (self.run_dir / CONFIG).exists():
            files[CONFIG] = file_sha256(self.run_dir / CONFIG)
        record = {"format": MANIFEST_FORMAT, **manifest, "files": files}
        write_atomically(self.run_dir / MANIFEST, json.dumps(record, indent=2).encode())
        release(self.run_dir)

    def _write_whitening(self) -> None:
        """Write the whitening, unless a run that is resumed has left the same."""
        whitening, path = self.real.whitening, self.run_dir / WHITENING
        data = tensor_bytes(
            whitening.tensors(), whitening_header(whitening.kind, self.real.spec.image_shape)
        )
        if path.exists():
            self._keep(WHITENING, file_sha256(path))
        self._write(WHITENING, data)

    def _write(self, name: str, data: bytes) -> None:
        """Write a file, unless it is there with this content."""
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != self._sha256.get(name) or not self._is_written(name):
            self._sha256.pop(name, None)  # not known until it is written
            keep(self.run_dir)
            write_atomically(self.run_dir / name, data)
            self._keep(name, sha256)

    def _remove(self, name: str) -> None:
        """Remove a file that is not one of the set any more."""
        if os.path.lexists(path := self.run_dir / name):
            keep(self.run_dir)
            try:
                path.unlink()
            except OSError as error:
                raise cannot_write(path, error) from error

    def _keep(self, name: str, sha256: str) -> None:
        self._sha256[name], self._stamps[name] = sha256, _stamp(self.run_dir / name)

    def _is_written(self, name: str) -> bool:
        """Say whether a file is as this process left it; one that somebody changed is not."""
        path = self.run_dir / name
        return name in self._sha256 and path.exists() and _stamp(path) == self._stamps[name]


def _stamp(path: Path) -> Stamp:
    """Return what changes when a file does: its inode, size and time in nanoseconds."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _facts(synthetic: SyntheticDataset, recipe: Recipe) -> dict[str, Any]:
    spec, layout = synthetic.spec, synthetic.placement.layout
    return {
        "format": ARTEFACT_FORMAT,
        "distill": __version__,
        "dataset": spec.name,
        "class_names": list(spec.class_names),
        "image_shape": list(spec.image_shape),
        "augmentations": list(spec.augmentations),
        **({} if spec.fit == "crop" else {"fit": spec.fit}),  # a file of the usual kind is as ever
        "canvas_hw": list(layout.canvas_hw),
        "wraps": layout.wraps,
        "simplex": synthetic.labeler.simplex,
        "budget": synthetic.budget().as_dict(),
        "recipe": recipe.model_dump(mode="json"),
    }

"""A result for other tools: one folder for each format, which appears whole.

images       PNG in a folder for each class, in label order; labels.json has all soft labels
tensors      tensors.safetensors (images, labels), whitening.safetensors
huggingface  train/*.png with train/metadata.jsonl, README.md, the dataset card, the artefact; the
             whitening is compact (`shared_whitening.py`)
dd-ranking   images.pt, labels.pt, lr.pt; poster.safetensors and geometry.json

Every folder has info.json: what it is, how it was made, and what was written into it.

May import: run and what stands below it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from distill_core import __version__
from distill_core.artefact.artefact import Whole, load_whole
from distill_core.artefact.contents import INFO, WHITENING
from distill_core.artefact.distilled import Distilled
from distill_core.artefact.last_set import read_set
from distill_core.artefact.places import located
from distill_core.artefact.result_file import folder_of
from distill_core.export.dd_ranking import export_dd_ranking
from distill_core.export.huggingface import export_huggingface
from distill_core.export.images import export_images
from distill_core.export.shared_whitening import whitening_text, write_whitening
from distill_core.export.tensors import export_tensors
from distill_core.export.written import names_in, strangers, written_in
from distill_core.system.files import write_atomically
from distill_core.system.folders import whole_folder
from distill_core.system.listing import named
from registry import ExplainedError, InputError, UnknownNameError

Writer = Callable[[Distilled, Path], list[str]]


def export(
    run_dir: Path,
    out: Path,
    form: str,
    *,
    force: bool = False,
    licence: str = "unknown",
    title: str = "",
    exact_whitening: bool = False,
) -> list[str]:
    """Write a result into a new folder.

    Args:
        run_dir: what `distill_core.load` reads.
        out: a folder that does not exist or is empty.
        form: "images", "tensors", "huggingface" or "dd-ranking".
        force: replace an earlier export in `out`; anything else is refused.
        licence: identifier of the licence of the source data, for the dataset card.
        title: of the dataset card; empty: one is made of the parts.
        exact_whitening: huggingface has the whole matrix of a ZCA, too; other formats always do.

    Returns:
        Lines of text about what was written, and its limits.

    Raises:
        InputError: `out` is in use, or the artefact cannot be read or written in this format.
        UnknownNameError: the format is unknown.
        EnvironmentFault: a file cannot be written.
    """
    writers: dict[str, Callable[[Whole], Writer]] = {
        "images": lambda whole: export_images,
        "tensors": lambda whole: export_tensors,
        "huggingface": lambda whole: partial(export_huggingface, licence=licence, title=title),
        "dd-ranking": lambda whole: partial(export_dd_ranking, tensors=whole.tensors),
    }
    if form not in writers:
        raise UnknownNameError("format", form, known=writers, next="correct --format.")
    _check_free(out, force=force)

    run_dir = located(run_dir)

    def write(check: Callable[[], None]) -> list[str]:
        whole = load_whole(run_dir)
        with whole_folder(out, replace=force) as folder:
            exact = exact_whitening or form != "huggingface"
            lines = _fill(folder, whole.distilled, form, writers[form](whole), exact=exact)
            check()  # the writers have read other files of the set
            _check_free(out, force=force)  # still
        return lines

    return [f"{form}: {out}", *read_set(folder_of(run_dir), write)]


def _fill(
    folder: Path, distilled: Distilled, form: str, writer: Writer, *, exact: bool
) -> list[str]:
    try:
        if form != "images":
            distilled = write_whitening(distilled, folder, exact=exact)
        lines = writer(distilled, folder)
        if form != "images":
            lines.append(f"{WHITENING}: {whitening_text(distilled)}.")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        if isinstance(error, ExplainedError):
            raise
        raise InputError(
            f"{distilled.path} cannot be written as {form} ({type(error).__name__}: {error}).",
            expected="a file that `distill run` wrote.",
            next="restore it from a copy, or run again.",
        ) from error
    info = {**_info(distilled, form), "files": names_in(folder)}
    write_atomically(folder / INFO, json.dumps(info, indent=1).encode())
    return lines


def _check_free(out: Path, *, force: bool) -> None:
    """Refuse a folder in use, unless it is an earlier export that may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        raise InputError(
            f"{out} exists already and is not an empty folder.",
            expected="a free name, so that nothing is mixed up or lost.",
            next="pass --out DIR for another place, or --force to replace an earlier export.",
        )
    if (written := written_in(out)) is None:
        raise InputError(
            f"{out} is not a folder that `distill export` made; it will not be deleted.",
            expected="an earlier export, which --force may replace.",
            next="pass --out DIR for another place.",
        )
    if others := strangers(out, written):
        raise InputError(
            f"{out} holds what no export wrote: {named(others)}. Nothing is deleted.",
            expected="a folder with files of an export alone, for --force.",
            next="move these elsewhere, or pass --out DIR for another place.",
        )


def _info(distilled: Distilled, form: str) -> dict[str, object]:
    return {
        "distill_export": form,
        "distill": __version__,
        "class_names": list(distilled.class_names),
        "image_shape": list(distilled.transform.image_shape),
        "whitening": distilled.transform.whitening.kind,
        "note": "Tensors are whitened; test images must be, too, with whitening.safetensors.",
        "budget": distilled.budget.as_dict(),
        "storage": distilled.storage.as_dict(),
        "recipe": distilled.recipe.model_dump(mode="json"),
    }

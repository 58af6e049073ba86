"""The whitening as it goes into an export: exact, or compact where the result is shared.

A ZCA of CIFAR-10 is a matrix of 38 MB beside a distilled set of a hundred kilobytes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from distill_core.artefact.artefact import file_sha256, whitening_header
from distill_core.artefact.compact_whitening import compact, how_to_load
from distill_core.artefact.contents import WHITENING
from distill_core.artefact.count_storage import size
from distill_core.artefact.distilled import Distilled
from distill_core.system.files import read_tensors, write_tensors

COMPACT_FORMAT = 2  # of the file; 1 has the matrix itself


def write_whitening(distilled: Distilled, out: Path, *, exact: bool) -> Distilled:
    """Write whitening.safetensors.

    Args:
        distilled: the result.
        out: a folder.
        exact: as it is; False: compact, if it has a large matrix.

    Returns:
        The result as it is shared: its metadata say which file this is, and how exact; its storage
        says how many bytes it takes.

    Raises:
        InputError: the file of the run is damaged.
    """
    about = dict(distilled.metadata["whitening"])
    shape = distilled.transform.image_shape
    file = distilled.path.with_name(WHITENING)
    tensors: dict[str, Tensor] = {}
    header = whitening_header(about["kind"], shape)
    if file.exists() or about["kind"] != "none":  # "none" needs no file
        tensors, header = read_tensors(file)
    if not exact and (small := compact(tensors, shape)) is not None:
        about |= {"rms_error": small.rms_error, "exact_bytes": size(tensors)}
        tensors = small.tensors
        header |= {
            "format": COMPACT_FORMAT,
            "rms_error": small.rms_error,
            "how_to_load": how_to_load(shape),
        }
    write_tensors(out / WHITENING, tensors, header)
    about["sha256"] = file_sha256(out / WHITENING)
    return replace(
        distilled,
        metadata={**distilled.metadata, "whitening": about},
        storage=replace(distilled.storage, whitening_bytes=size(tensors)),
    )


def whitening_text(distilled: Distilled) -> str:
    """Return what a reader should know of the whitening that `write_whitening` wrote.

    Args:
        distilled: what that returned.
    """
    about = distilled.metadata["whitening"]
    text = f"'{about['kind']}', {distilled.storage.whitening_bytes:,} bytes"
    if "rms_error" not in about:
        return text
    return (
        f"{text} in place of {about['exact_bytes']:,}: compact, so whitened pixels are "
        f"about {100 * about['rms_error']:.1f} % (root mean square) from those of the run"
    )

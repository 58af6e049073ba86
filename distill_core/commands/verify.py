"""Whether an artefact is what its manifest says: every claim is checked against the bytes.

Only files are read. No plugin is loaded, so that an artefact from a stranger can be checked without
running their code. What is decoded by a plugin is checked by `verify_decoded.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_core.artefact.artefact import BROKEN, file_sha256, load, read_about
from distill_core.artefact.contents import DISTILLED, MANIFEST, STORED, WHITENING
from distill_core.artefact.count_storage import counted_storage, packed_storage, size
from distill_core.artefact.last_set import current, read_set
from distill_core.artefact.manifest import read_manifest
from distill_core.artefact.packing import PREFIXES, state_of
from distill_core.artefact.result_file import RESULTS, listed_results, result_file
from distill_core.artefact.soundness import off_simplex
from distill_core.artefact.storage import Storage
from distill_core.artefact.stored_file import decoded_state, read_stored
from distill_core.system.files import read_tensors
from distill_core.system.units import counted
from registry import ExplainedError, InputError

# Student's t: 99 % lie within, by degrees of freedom from 1; for more than 10 the last is taken.
QUANTILES = (63.66, 9.92, 5.84, 4.60, 4.03, 3.71, 3.50, 3.36, 3.25, 3.17)


@dataclass(frozen=True)
class Check:
    """One claim, whether it holds, and what was found."""

    name: str
    passed: bool
    found: str


def verify(run_dir: Path) -> list[Check]:
    """Check an artefact against its manifest: files, budget, class order, labels, versions.

    Raises:
        InputError: there is no manifest.
    """

    def read(check: Callable[[], None]) -> list[Check]:
        checks = _verify(current(run_dir))
        if not all(each.passed for each in checks):
            check()
        return checks

    return read_set(run_dir, read)


def _verify(run_dir: Path) -> list[Check]:
    manifest, file = read_manifest(run_dir), result_file(run_dir)
    checks = list(_files(run_dir, manifest))
    parts: dict[str, Callable[[], tuple[bool, str]]] = {
        "artefact": lambda: (True, f"{len(load(run_dir).dataset)} training images"),
        "budget": lambda: _budget(file, manifest),
        "storage": lambda: _storage(file, manifest),
        "class order": lambda: _class_order(file, manifest),
        "labels": lambda: _labels(file),
        "versions": lambda: _versions(manifest),
    }
    if file.name == STORED:  # images and labels are made when it is decoded
        parts |= {"artefact": lambda: _numbers(file), "labels": lambda: _label_numbers(file)}
    for name, check in parts.items():
        try:
            checks.append(Check(name, *check()))
        except ExplainedError as error:
            checks.append(Check(name, False, error.what))
        except FileNotFoundError as error:
            checks.append(Check(name, False, f"{Path(str(error.filename)).name} is missing"))
        except (OSError, *BROKEN) as error:
            checks.append(Check(name, False, f"cannot be read ({type(error).__name__}: {error})"))
    return checks


def within_spread(recorded: Mapping[str, Any], accuracies: tuple[float, ...]) -> Check:
    """Compare a new evaluation with the recorded one.

    Equal accuracies, as on the same machine, pass. Else means of n and m networks may differ
    by t s sqrt(1/n + 1/m), with s the pooled sample deviation and t the two-sided 99 % quantile of
    Student's distribution with n + m - 2 degrees of freedom. With one network each the spread is
    not known, and only equality passes.
    """
    old, new = [float(value) for value in recorded["accuracies"]], list(accuracies)
    if old == new:
        return Check("evaluation", True, f"as recorded for each of {counted(len(old), 'network')}")
    means = sum(old) / len(old), sum(new) / len(new)
    freedom = len(old) + len(new) - 2
    text = f"{100 * means[1]:.2f} % now, {100 * means[0]:.2f} % recorded"
    if not freedom:
        return Check("evaluation", False, f"{text}; one network each tells no spread, so only an "
                     "equal number would do: raise evaluate.nets")  # fmt: skip
    squares = sum((x - means[0]) ** 2 for x in old) + sum((x - means[1]) ** 2 for x in new)
    spread = math.sqrt(squares / freedom * (1 / len(old) + 1 / len(new)))
    allowed = QUANTILES[min(freedom, len(QUANTILES)) - 1] * spread + 1e-9
    tells = f"{len(old)} and {counted(len(new), 'network')} tell apart what differs by more than"
    text = f"{text}; {tells} {100 * allowed:.2f}"
    return Check("evaluation", abs(means[0] - means[1]) <= allowed, text)


def _files(run_dir: Path, manifest: Mapping[str, Any]) -> Iterator[Check]:
    if not listed_results(run_dir):
        yield Check("files", False, f"{MANIFEST} lists no {' and no '.join(RESULTS)}")
        return
    files = manifest["files"]
    for name, expected in sorted(files.items()):
        path = run_dir / name
        if Path(name).name != name:
            yield Check("file", False, f"{name!r} is not a file of the run directory")
            continue
        try:
            found = file_sha256(path)
        except FileNotFoundError:
            yield Check(name, False, "is missing")
        except InputError as error:
            yield Check(name, False, error.what)
        except (OSError, ValueError) as error:
            yield Check(name, False, f"cannot be read: {error}")
        else:
            same = found == expected
            text = f"SHA-256 {found[:12]}..."
            yield Check(name, same, text if same else f"{text}, not {str(expected)[:12]}...")


def _numbers(file: Path) -> tuple[bool, str]:
    """Whether stored numbers are finite, and belong to the whitening beside them."""
    about = read_about(file)
    state = decoded_state(*read_stored(file))
    text = f"{sum(each.numel() for each in state.values())} numbers, from which images are decoded"
    if not all(bool(each.isfinite().all()) for each in state.values()):
        return False, f"{text}, are not all finite"
    same = file_sha256(file.with_name(WHITENING)) == about["whitening"]["sha256"]
    return same, text if same else f"{text}, belong to another {WHITENING}"


def _state(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the numbers of a result, by component, and its metadata."""
    if file.name == STORED:
        packed, metadata = read_stored(file)
        return decoded_state(packed, metadata), metadata
    tensors, metadata = read_tensors(file)
    return state_of(tensors, metadata["same"]), metadata


def _budget(file: Path, manifest: Mapping[str, Any]) -> tuple[bool, str]:
    state, metadata = _state(file)
    channels, h, w = metadata["image_shape"]
    classes = len(metadata["class_names"])

    def count(part: str) -> int:
        every = {n: t for n, t in state.items() if n.startswith(f"{part}.")}
        return sum(tensor.numel() for name, tensor in every.items() if not _is_level(name, every))

    pixels, numbers = count("representation") / channels, count("labeler")
    found = {
        "pixels": pixels,
        "ipc": pixels / (h * w * classes),
        "label_numbers": numbers,
        "label_rows": numbers / classes**2,
    }
    claims = manifest["budget"], metadata["budget"]
    same = all(
        math.isclose(float(claim[name]), value, rel_tol=1e-9)
        for claim in claims
        for name, value in found.items()
    )
    text = f"{pixels:g} pixels, {numbers} label numbers"
    return same, text if same else f"{text} are stored; claimed: {claims[0]}"


def _storage(file: Path, manifest: Mapping[str, Any]) -> tuple[bool, str]:
    tensors, metadata = read_tensors(file)
    claims = [Storage.read(each.get("storage")) for each in (manifest, metadata)]
    whitening, _ = read_tensors(file.with_name(WHITENING))
    if (stored := file.with_name(STORED)).exists():
        packed, about = read_stored(stored)
        if file != stored and not _decodes(packed, about, state_of(tensors, metadata["same"])):
            return False, f"{STORED} has other numbers than {DISTILLED}"
        found = packed_storage(packed, about["shapes"], metadata, whitening)
        if beside := size(packed) - found.bytes:
            return False, f"{counted(beside, 'byte')} of {STORED} are none of its numbers"
    else:
        found = counted_storage(tensors, metadata, whitening)
    text = f"{found.numbers} numbers in {found.bytes} bytes"
    wrong = next((claim for claim in claims if claim not in (None, found)), None)
    return wrong is None, text if wrong is None else f"{text} are stored; claimed: {wrong}"


def _decodes(
    packed: Mapping[str, Tensor], about: Mapping[str, Any], state: Mapping[str, Tensor]
) -> bool:
    """Whether stored numbers are those of a state, so that their size is the size of these."""
    small = decoded_state(packed, about)
    state = {name: tensor for name, tensor in state.items() if not _is_level(name, state)}
    for part, prefix in PREFIXES.items():
        if any(name.startswith(f"{prefix}.") for name in about["types"]):  # a component in another
            small = {re.sub(f"^{part}[.]", f"{part}.inner.", n): each for n, each in small.items()}
    return small.keys() == state.keys() and all(
        each.shape == state[name].shape and torch.allclose(each, state[name].to(each.dtype))
        for name, each in small.items()
    )


def _is_level(name: str, state: Mapping[str, Tensor]) -> bool:
    """Say whether a tensor is a learned scale of a component in a stored type."""
    part = name.partition(".")[0]
    typed = any(other.startswith(f"{part}.inner.") for other in state)
    return typed and name.startswith(f"{part}.levels.")


def _class_order(file: Path, manifest: Mapping[str, Any]) -> tuple[bool, str]:
    tensors, metadata = read_tensors(file, ["class_grid"])
    stated = metadata["class_grid"] if file.name == STORED else tensors["class_grid"]
    names, grid = metadata["class_names"], torch.as_tensor(stated)
    if sorted(grid.reshape(-1).tolist()) != list(range(len(names))):
        return False, "the class grid is not a permutation of the classes"
    order = [[names[k] for k in row] for row in grid.tolist()]
    same = order == manifest["class_order"]
    return same, f"{len(names)} classes, each once" + ("" if same else ", not as the manifest says")


def _labels(file: Path) -> tuple[bool, str]:
    tensors, metadata = read_tensors(file, ["labels"])
    return labels_hold(tensors["labels"], simplex=metadata.get("simplex", True))


def labels_hold(labels: Tensor, *, simplex: bool) -> tuple[bool, str]:
    """Whether labels (n, K) are finite and, if they are meant to be, distributions."""
    if labels.dim() != 2 or not bool(torch.isfinite(labels).all()):
        return False, "labels are not a table of finite numbers"
    off = float((labels.double().sum(1) - 1).abs().max())
    least = float(labels.min())
    found = f"{len(labels)} rows; sums within {off:.1e} of 1, least {least:.1e}"
    if not simplex:
        return True, f"{found}; not meant to be distributions"
    return off_simplex(labels) is None, found


def _label_numbers(file: Path) -> tuple[bool, str]:
    """Whether the numbers of which labels are made are finite; labels need code of the labeler."""
    packed, about = read_stored(file)
    state = decoded_state(packed, about)
    rows = [each for name, each in state.items() if name.startswith("labeler.")]
    if not rows:
        return True, "no numbers: they follow from the classes when images are decoded"
    numbers = counted(sum(each.numel() for each in rows), "number")
    taken = size({n: each for n, each in packed.items() if n.startswith(f"{PREFIXES['labeler']}.")})
    text = f"{numbers} in {counted(taken, 'byte')}, from which they are made"
    finite = all(bool(each.isfinite().all()) for each in rows)
    return finite, text if finite else f"{text}, are not all finite"


def _versions(manifest: Mapping[str, Any]) -> tuple[bool, str]:
    versions = manifest["versions"]
    text = ", ".join(f"{name} {versions[name]}" for name in ("distill", "python", "torch"))
    return all(isinstance(value, str) for value in versions.values()), text

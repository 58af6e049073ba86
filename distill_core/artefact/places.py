"""Where a result lies that is not in a folder of the user: in the gallery, or on the Hub.

gallery:NAME                a result that comes with distill
hf://user/name[@revision]   a dataset of the Hugging Face Hub, as `distill push` makes it
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from distill_core.artefact.contents import MANIFEST, WHITENING
from distill_core.artefact.gallery import entry_folder
from distill_core.artefact.result_file import RESULTS, check_there, file_of, has_result
from distill_core.system.cache import cache_dir
from distill_core.system.paths import as_path
from registry import EnvironmentFault, ExplainedError, InputError

GALLERY, HUB = "gallery:", "hf:/"
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
# A Path has lost one of the slashes.
_HUB = re.compile(rf"hf:/{{1,2}}({REPOSITORY.pattern})(?:@([\w./-]+))?", re.ASCII)
FILES = (*RESULTS, WHITENING, MANIFEST)


def located(place: str | Path) -> Path:
    """Return the folder or file that a user names; one on the Hub is downloaded.

    Raises:
        UnknownNameError: the gallery has no such entry.
        InputError: the Hub has no such dataset, or shows it to others only; or it is no path.
        EnvironmentFault: the Hub cannot be reached, and nothing of it is here.
    """
    text = str(place)
    if text.startswith(GALLERY):
        return entry_folder(text.removeprefix(GALLERY))
    if not text.startswith(HUB):
        return as_path(place, what="path")
    if (found := _HUB.fullmatch(text)) is None:
        raise InputError(
            f"'{text}' names no dataset of the Hub.",
            expected="hf://user/name, or hf://user/name@revision.",
            next="correct the name.",
        )
    return _download(found[1], found[2])


def check_named(place: str | Path) -> None:
    """Refuse a result that is not there, by the name alone; one on the Hub is not looked for.

    Raises:
        UnknownNameError: the gallery has no such entry.
        InputError: there is no such file.
    """
    if not str(place).startswith(HUB):
        check_there(file_of(located(place)))


def is_elsewhere(place: str | Path) -> bool:
    """Say whether what a user names is in the gallery or on the Hub, and no path."""
    return str(place).startswith((GALLERY, HUB))


def endpoint() -> str | None:
    """Return the address of the Hub that HF_ENDPOINT names; None for the usual one."""
    return os.environ.get("HF_ENDPOINT") or None


def address() -> str:
    """Return where the Hub is."""
    return endpoint() or "https://huggingface.co"


def explained(repository: str, error: Exception) -> ExplainedError:
    """Return what an error of the Hub means for a user.

    Args:
        repository: "user/name".
        error: what huggingface_hub raised.
    """
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(
            f"the Hub's dataset {repository} has no such revision.",
            expected="a branch, a tag or a commit after the @.",
            next="leave it out for the newest.",
        )
    if isinstance(error, errors.HFValidationError):
        return InputError(
            f"'{repository}' is no name on the Hub: {error}",
            expected="user/name.",
            next="correct the name.",
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return InputError(
            f"the Hub shows no dataset {repository} to you (status {status}).",
            expected="a dataset that is public, or yours and a token that may use it.",
            next="check the name; log in with `hf auth login`, or set HF_TOKEN.",
        )
    what = " ".join(str(error).split())[:200]
    return EnvironmentFault(
        f"the Hub at {address()} did not do it for {repository}: {type(error).__name__}: {what}",
        expected="a network that reaches it; HF_HUB_OFFLINE forbids that, HF_ENDPOINT moves it.",
        next="try again later.",
    )


def _folder(repository: str, revision: str | None) -> Path:
    """Where a dataset is kept: servers may have different ones of a name."""
    name = f"{repository}@{revision or 'main'}"
    if (server := endpoint()) is not None:
        name = f"{server.partition('://')[2] or server} {name}"
    return cache_dir() / "hub" / re.sub(r"[^\w.@ -]", "--", name.rstrip("/"), flags=re.ASCII)


def _download(repository: str, revision: str | None) -> Path:
    """Get the files of an artefact; those that are here already are not sent again."""
    from huggingface_hub import snapshot_download

    target = _folder(repository, revision)
    arguments: dict[str, Any] = {"revision": revision, "endpoint": endpoint()}
    try:
        # Files, not the links of the Hub's own cache: links in a result are refused.
        snapshot_download(
            repository,
            repo_type="dataset",
            allow_patterns=list(FILES),
            local_dir=target,
            library_name="distill",
            **arguments,
        )
    except Exception as error:
        raise explained(repository, error) from error
    if not has_result(target):
        raise InputError(
            f"the Hub's dataset {repository} has no {' and no '.join(RESULTS)}.",
            expected="a dataset that `distill push` made.",
            next="ask who made it; pictures alone are read by datasets.load_dataset.",
        )
    return target

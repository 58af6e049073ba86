"""A result as a dataset of the Hugging Face Hub, which `distill_core.load("hf://...")` reads."""

from __future__ import annotations

import tempfile
from pathlib import Path

from distill_core import __version__
from distill_core.artefact.contents import CONFIG, MANIFEST
from distill_core.artefact.places import REPOSITORY, address, endpoint, explained
from distill_core.artefact.result_file import RESULTS
from distill_core.export import export
from registry import InputError

EARLIER = [*RESULTS, MANIFEST, CONFIG, "train/[0-9]*.png"]  # of an earlier result


def push(
    run: Path,
    repository: str,
    *,
    licence: str = "unknown",
    title: str = "",
    private: bool = False,
    exact_whitening: bool = False,
) -> str:
    """Upload a result with its pictures, tensors and dataset card.

    Args:
        run: a run directory, or the file of a result.
        repository: "user/name"; made if it is not there.
        licence: of the source data, as the Hub calls it.
        title: of the dataset card; empty: one is made.
        private: a repository that is made can be seen by its owner only.
        exact_whitening: send the whole matrix of a ZCA, which is large.

    Returns:
        The address of the dataset.

    Raises:
        InputError: the result cannot be exported, or the Hub refuses the name or the token.
        EnvironmentFault: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    if not REPOSITORY.fullmatch(repository):
        raise InputError(
            f"{repository!r} names no dataset of the Hub.",
            expected="USER/NAME, of letters, digits, dots, hyphens and underscores.",
            next="put your name on the Hub, or that of an organisation, before the slash.",
        )
    with tempfile.TemporaryDirectory(prefix="distill-") as folder:
        out = Path(folder) / "dataset"
        export(
            run,
            out,
            "huggingface",
            licence=licence,
            title=title,
            exact_whitening=exact_whitening,
        )
        hub = HfApi(endpoint=endpoint(), library_name="distill", library_version=__version__)
        try:
            hub.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
            hub.upload_folder(
                repo_id=repository,
                folder_path=out,
                repo_type="dataset",
                delete_patterns=EARLIER,  # what is sent now stays
                commit_message=f"distill {__version__}",
            )
        except Exception as error:
            raise explained(repository, error) from error
    return f"{address()}/datasets/{repository}"

"""Downloading CLIP weights: never silently, and without a network a quick refusal."""

from __future__ import annotations

import os
import socket
import sys
import urllib.request
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from distill_core.plugin import EnvironmentFault

REACH_SECONDS = 3.0


def download(repository: str, file: str, *, what: str) -> Path:
    """Download a file of the Hugging Face hub into its cache, after saying so and how large it is.

    Args:
        repository: on the hub.
        file: its name there.
        what: how messages name it.

    Raises:
        EnvironmentFault: there is no network, or the download fails.
    """
    import huggingface_hub
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    _check_reachable(huggingface_hub.constants.ENDPOINT, what)
    try:
        url = huggingface_hub.hf_hub_url(repository, file)
        size = huggingface_hub.get_hf_file_metadata(url, timeout=2 * REACH_SECONDS).size
        stated = "of unknown size" if size is None else f"{size / 1e6:,.0f} MB"
        print(
            f"{what} is not on this machine: downloading {stated} from {url} into "
            f"{huggingface_hub.constants.HF_HUB_CACHE}.",
            file=sys.stderr,
            flush=True,
        )
        return Path(huggingface_hub.hf_hub_download(repository, file))
    except (OSError, ValueError, RuntimeError, HTTPError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise unavailable(what, lines[0]) from None


def unavailable(what: str, why: str) -> EnvironmentFault:
    """Return the error for weights that cannot be had, with the ways out."""
    return EnvironmentFault(
        f"{what} is not on this machine and cannot be downloaded: {why.rstrip('.')}.",
        expected="weights in the local cache, or a network.",
        next="compare images with -o orderer.similarity=image; or give embeddings with "
        "-o orderer.similarity=file -o orderer.file=PATH; or name local weights with "
        "-o orderer.pretrained=PATH.",
    )


def _check_reachable(endpoint: str, what: str) -> None:
    """Find out quickly whether a download can work; the hub's own client tries for a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}:
        raise unavailable(what, "HF_HUB_OFFLINE is set")
    address = urlsplit(urllib.request.getproxies().get("https", endpoint))
    host = address.hostname or ""
    port = address.port or (80 if address.scheme == "http" else 443)
    # Until it answers. A thread, since looking up a name heeds no time-out.
    answer = [f"no answer in {2 * REACH_SECONDS:.0f} s"]

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=REACH_SECONDS).close()
            answer[0] = ""
        except OSError as error:
            answer[0] = str(error)

    attempt = Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(2 * REACH_SECONDS)
    if answer[0]:
        raise unavailable(what, f"{host} cannot be reached: {answer[0]}")

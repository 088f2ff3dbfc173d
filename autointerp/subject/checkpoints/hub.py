"""Fetching one coder's files from the Hugging Face hub, and nothing else of its repository."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

from autointerp.latents import AutointerpError
from autointerp.subject.reasons import first_line

#: Beside a coder's own folder, these describe it.
_CONFIGS = ("config.yaml", "config.json", "cfg.json", "hyperparams.json")


class Download(NamedTuple):
    path: Path
    revision: str | None  # the commit


def is_hub_path(path: str) -> bool:
    """Whether it looks like ``owner/repository`` or a place in one."""
    return re.fullmatch(r"[\w.-]*\w[\w.-]*/[\w.-]*\w[\w.-]*(/[^/]+)*/?", path) is not None and not (
        path.startswith((".", "/"))
    )


def download(path: str, revision: str | None) -> Download:
    """Fetch ``owner/repository/folder`` (or a file there).

    Without a network, what an earlier call fetched is used.

    Raises:
        AutointerpError: one line, if the repository or the folder in it cannot be had.
    """
    import huggingface_hub as hub
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    refused: tuple[type[Exception], ...] = (HfHubHTTPError, HFValidationError, OSError)
    refused += tuple(_network_errors())
    owner, name, *below = path.rstrip("/").split("/")
    repository, place = f"{owner}/{name}", "/".join(below)
    try:
        if constants.HF_HUB_OFFLINE:
            folder = hub.snapshot_download(repository, revision=revision, local_files_only=True)
        else:
            about = hub.HfApi().model_info(repository, revision=revision)
            files = wanted([s.rfilename for s in about.siblings or []], place)
            folder = hub.snapshot_download(repository, revision=about.sha, allow_patterns=files)
    except refused as error:
        raise AutointerpError(
            f"there is no file or folder {path}, and it cannot be fetched from the Hugging Face "
            f"hub: {first_line(error)}"
        ) from error
    found = Path(folder) / place
    if not found.exists():
        raise AutointerpError(f"there is no {place!r} in the repository {repository} on the hub")
    return Download(found, Path(folder).name)


def _network_errors() -> list[type[Exception]]:
    """What the hub's client lets through when there is no connection, whichever it uses."""
    names = [name for name in ("httpx2", "httpx") if importlib.util.find_spec(name)]
    return [importlib.import_module(name).HTTPError for name in names]


def wanted(names: list[str], place: str) -> list[str]:
    """The files of a repository that belong to the coder at ``place``, as glob patterns.

    Its own, those in ``checkpoints/`` below it, and configurations in its own folder and the
    one above, but no other coder's weights.
    """
    above = place.rpartition("/")[0]
    chosen = [
        name
        for name in names
        if name == place
        or _parent(name) in (place, f"{place}/checkpoints".lstrip("/"))
        or (_parent(name) == above and name.rpartition("/")[2] in _CONFIGS)
    ]
    return [re.sub(r"([\[*?])", r"[\1]", name) for name in chosen]


def _parent(name: str) -> str:
    return name.rpartition("/")[0]

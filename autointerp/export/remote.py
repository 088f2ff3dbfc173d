"""A data set's repository on the Hugging Face hub, through the hub's own client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import disable_progress_bars

from autointerp.latents import AutointerpError

# What the client raises of its own, and what the HTTP library beneath it does, have this base.
HTTP_ERROR: type[Exception] = HfHubHTTPError.__mro__[1]
_KIND = "dataset"
_LINES = 3  # of an answer, that say what it is about
_PASSING = (408, 425, 429)  # of the answers below 500, those that another try may change


class PassingTrouble(Exception):
    """What may be over when it is tried again: no connection, a server that fails."""


@dataclass(frozen=True)
class Local:
    """A file to be in the repository: its place there, where it lies here, and its size."""

    name: str
    path: Path
    bytes: int
    sha256: str

    def is_there(self, held: RepoFile) -> bool:
        """Whether the repository's file has the same contents."""
        if held.lfs is not None:
            return bool(held.lfs.sha256 == self.sha256)
        return bool(held.size == self.bytes and held.blob_id == self._git_name())

    def _git_name(self) -> str:
        """The name that git gives to a file of these contents."""
        return hashlib.sha1(b"blob %d\0" % self.bytes + self.path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Held:
    """What a repository has: nothing if there is none yet."""

    private: bool | None
    files: dict[str, RepoFile]


class Remote:
    """One data set's repository, whether it exists yet or not.

    Every method raises PassingTrouble where another try may help, else AutointerpError.
    """

    def __init__(self, name: str) -> None:
        if constants.HF_HUB_OFFLINE:
            raise AutointerpError("HF_HUB_OFFLINE is set, and a push needs the Hugging Face hub")
        if get_token() is None:
            raise AutointerpError(
                "no Hugging Face token; set HF_TOKEN to one that can write, or run `hf auth login`"
            )
        disable_progress_bars()  # the push has one of its own
        self._api = HfApi(library_name="autointerp")
        with _told("tell whose token it is"):
            self.user: str = self._api.whoami()["name"]
        self.name = name if "/" in name else f"{self.user}/{name}"
        self.url = f"{self._api.endpoint}/datasets/{self.name}"

    def held(self) -> Held:
        """What is there now."""
        with _told(f"tell what is in {self.name}"):
            try:
                info = self._api.repo_info(self.name, repo_type=_KIND)
                tree = self._api.list_repo_tree(self.name, recursive=True, repo_type=_KIND)
                files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
            except RepositoryNotFoundError:
                return Held(None, {})
        return Held(bool(info.private), files)

    def create(self, *, public: bool) -> None:
        """Make the repository; one that is there stays as it is."""
        with _told(f"make {self.name}"):
            self._api.create_repo(self.name, private=not public, repo_type=_KIND, exist_ok=True)

    def commit(self, added: Sequence[Local], deleted: Sequence[str], message: str) -> None:
        """Upload files and put them into the repository, all or none of them."""
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(file.name, str(file.path)) for file in added
        ]
        operations += [CommitOperationDelete(name) for name in deleted]
        with _told(f"take files for {self.name}"):
            self._api.create_commit(self.name, operations, commit_message=message, repo_type=_KIND)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Tell apart what may be over when it is tried again from what a user must change."""
    try:
        yield
    except HFValidationError as error:
        raise AutointerpError(f"--repo: {_line(error)}") from error
    except (HTTP_ERROR, RuntimeError, ValueError, OSError) as error:
        status = _status(error)
        if status is None or status >= 500 or status in _PASSING:
            raise PassingTrouble(f"the hub failed to {what}: {_line(error)}") from error
        raise AutointerpError(f"the hub refused to {what}: {_line(error)}") from error


def _status(error: BaseException | None) -> int | None:
    """The status of the answer behind an error; None if there was no answer."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__
    return None


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:_LINES]) or type(error).__name__

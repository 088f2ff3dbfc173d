"""Finds the embedder's files: on this machine first, and on the hub only where that answers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autointerp.latents import AutointerpError
from autointerp.subject import embedder
from autointerp.subject.embedder import Embedder, check_installed
from autointerp.subject.reasons import first_line

SECONDS = 5.0  # that the hub may take to answer, the one time that it is asked
_ADVICE = "set embedder.model=FOLDER to one on this machine, or `--model FOLDER` of similarity"


def load_embedder(model: str, revision: str | None = None, device: str = "auto") -> Embedder:
    """Load a sentence-transformers model: a folder, what the hub's client has kept of a hub id, or
    a hub id that is fetched. A signal ends it.

    Raises:
        AutointerpError: if the extra is not installed, or there is no such model; at once, where
            it is not on this machine and the hub does not answer.
    """
    check_installed()
    with _interruptible():
        check_there(model, revision)
        if not Path(model).exists() and (kept := _kept(model, revision)):
            try:
                return embedder.load_embedder(str(kept), device=device)
            except AutointerpError:
                _ask_hub(model, revision, f"{kept} does not have all of it")
        return embedder.load_embedder(model, revision, device)


def check_there(model: str, revision: str | None = None) -> None:
    """Look whether there is such a model, without loading it.

    Raises:
        AutointerpError: if it is not on this machine, and the hub does not have it or not answer.
    """
    if not Path(model).exists() and _kept(model, revision) is None:
        _ask_hub(model, revision, "it is not on this machine")


def _kept(model: str, revision: str | None) -> Path | None:
    """The folder with what the hub's client has fetched of the model before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (OSError, HFValidationError):
        return None


def _ask_hub(model: str, revision: str | None, lacking: str) -> None:
    """Ask the hub for the model once: the client that fetches it would try for minutes.

    Raises:
        AutointerpError: if it does not answer, or has no such model.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    http_error: type[Exception] = HfHubHTTPError.__mro__[1]  # of whichever library is beneath
    try:
        HfApi().model_info(model, revision=revision, timeout=SECONDS)
    except HFValidationError as error:
        raise AutointerpError(
            f"cannot load the embedder {model!r}: there is no such folder; set embedder.model to a"
            " folder or a hub id"
        ) from error
    except (http_error, OSError) as error:
        raise AutointerpError(
            f"cannot load the embedder {model!r}: {lacking}, and the Hugging Face hub does not"
            f" give it ({first_line(error)}); {_ADVICE}"
        ) from error


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let the first signal end the block, which an event loop would hear of only after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    heard = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])

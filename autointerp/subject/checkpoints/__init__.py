"""Reading a sparse coder from disk or from the Hugging Face hub, whatever its layout.

Which reader is used is found from the files. ``checkpoints.names()`` lists the layouts.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from autointerp.latents import AutointerpError
from autointerp.subject.checkpoints.base import Files, Reader, checkpoints
from autointerp.subject.checkpoints.hub import download, is_hub_path
from autointerp.subject.coders import SparseCoder

__all__ = ["Files", "Reader", "checkpoints", "detect", "load_coder"]


def load_coder(
    path: str | Path,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> SparseCoder:
    """Read a sparse coder.

    Args:
        path: a folder, one weights file of a folder that holds several coders, or a place on
            the Hugging Face hub, ``owner/repository/folder``, used if no such path exists.
        revision: branch, tag or commit on the hub; the commit found is in ``info.revision``.

    Raises:
        AutointerpError: one line, if there is nothing there, the layout is unknown, a tensor is
            missing or has the wrong shape, or the coder is of a kind that is not supported.
    """
    files = _files(path, revision)
    return detect(files).read(files).to(device, dtype)


def detect(files: Files) -> type[Reader]:
    """The reader of the one layout that the files have.

    Raises:
        AutointerpError: if they are of no known layout, or of several.
    """
    readers = {name: checkpoints.get(name).implementation for name in checkpoints.names()}
    found = {name: reader for name, reader in readers.items() if reader.matches(files)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise AutointerpError(
            f"{files} could be of the layouts {' or '.join(found)}; name the weights file itself"
        )
    some = ", ".join(sorted(p.name for p in files.folder.iterdir())[:5]) or "nothing"
    raise AutointerpError(
        f"{files} is not a sparse coder of a known layout (it holds {some}; known: "
        f"{', '.join(readers)})"
    )


def _files(path: str | Path, revision: str | None) -> Files:
    local = Path(path).expanduser()
    if local.is_dir():
        return Files(local, None, str(path), revision)
    if local.is_file():
        return Files(local.parent, local, str(path), revision)
    if not is_hub_path(str(path)):
        raise AutointerpError(f"there is no sparse coder at {path}: no such file or folder")
    found = download(str(path), revision)
    return replace(_files(found.path, found.revision), name=str(path))

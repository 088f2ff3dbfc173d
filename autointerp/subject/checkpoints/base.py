"""What every checkpoint reader is given, and how it complains.

A reader is a class with two class methods, registered under its layout's name::

    @checkpoints.register("my_layout")
    class MyLayout(Reader):
        @classmethod
        def matches(cls, files: Files) -> bool: ...
        @classmethod
        def read(cls, files: Files) -> SparseCoder: ...

Other packages add readers by the entry-point group ``autointerp.checkpoints``.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from autointerp.latents import AutointerpError
from autointerp.registry import Registry
from autointerp.subject.coders import CoderInfo, SparseCoder
from autointerp.subject.reasons import first_line


@dataclass(frozen=True)
class Files:
    """A checkpoint on disk: a folder, or one file of a folder that holds several coders.

    ``name`` is the path or hub id as the user wrote it: some layouts tell the layer or k only
    there. ``revision`` is the commit, of a checkpoint from the hub.
    """

    folder: Path
    file: Path | None
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def parts(self) -> list[str]:
        """The folders of the name as written and as resolved, the innermost last."""
        return [*Path(self.name).parts, *(self.file or self.folder).resolve().parts]

    def search(self, pattern: str) -> re.Match[str] | None:
        """The innermost folder or file of the path that the regular expression matches."""
        found = (re.search(pattern, part) for part in reversed(self.parts))
        return next((match for match in found if match), None)

    def path(self, name: str) -> Path | None:
        """The file of that name beside the weights."""
        path = self.folder / name
        return path if path.is_file() else None

    def weights(self, *patterns: str) -> list[Path]:
        """Weight files by name; only the one the user named, if a file was named."""
        paths = [self.file] if self.file else sorted(self.folder.iterdir())
        return [
            p for p in paths if p.is_file() and any(fnmatch.fnmatch(p.name, x) for x in patterns)
        ]

    def one(self, *patterns: str) -> Path:
        """The weight file, where there must be exactly one.

        Raises:
            AutointerpError: if the folder holds several; names some.
        """
        paths = self.weights(*patterns)
        if len(paths) == 1:
            return paths[0]
        if not paths:
            raise AutointerpError(f"{self}: there is no {' or '.join(patterns)}")
        some = ", ".join(p.name for p in paths[:3])
        raise AutointerpError(f"{self} holds several coders ({some}, …); name one file of them")

    def json(self, name: str) -> dict[str, Any]:
        """A configuration file, {} if it is absent."""
        path = self.path(name)
        if path is None:
            return {}
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise AutointerpError(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(value, dict):
            raise AutointerpError(f"{path} must hold a JSON object")
        return value


class Reader(ABC):
    """Reads one layout."""

    @classmethod
    @abstractmethod
    def matches(cls, files: Files) -> bool:
        """Whether the files are of this layout; cheap, and true of one layout only."""

    @classmethod
    @abstractmethod
    def read(cls, files: Files) -> SparseCoder:
        """Build the coder, in float32 on the CPU.

        Raises:
            AutointerpError: one line that names the file and what is wrong with it.
        """


checkpoints: Registry[Reader] = Registry(
    "checkpoint layout", "autointerp.subject.checkpoints", group="autointerp.checkpoints"
)


class Weights:
    """The tensors of a checkpoint, in float32; every request is checked."""

    def __init__(self, path: Path, tensors: Mapping[str, Any]) -> None:
        self.path = path
        self.tensors = tensors

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def get(self, name: str, *shape: int | None) -> Tensor:
        """One tensor, of the given shape (None: any size).

        Raises:
            AutointerpError: if it is missing or of another shape.
        """
        if name not in self.tensors:
            has = ", ".join(sorted(map(str, self.tensors)))
            raise AutointerpError(f"{self.path}: there is no tensor {name!r} (it has {has})")
        tensor = self.tensors[name]
        if not isinstance(tensor, Tensor):
            raise AutointerpError(f"{self.path}: {name!r} is not a tensor")
        fits = len(shape) == tensor.dim() and all(
            want is None or want == size for want, size in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            want = ", ".join("any" if size is None else str(size) for size in shape)
            raise AutointerpError(
                f"{self.path}: {name!r} has shape {list(tensor.shape)}, expected [{want}]"
            )
        return tensor.detach().to(torch.float32)

    def scalar_or(self, name: str, size: int) -> Tensor:
        """A tensor that is [size] or a single number: [size] or []."""
        tensor = self.tensors.get(name)
        if isinstance(tensor, Tensor) and tensor.numel() == 1:
            return tensor.detach().to(torch.float32).reshape(())
        return self.get(name, size)


def load_safetensors(path: Path) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return Weights(path, load_file(path))
    except (SafetensorError, OSError) as error:
        raise AutointerpError(f"{path} is not a readable safetensors file: {error}") from error


def load_torch(path: Path) -> Mapping[str, Any]:
    """A ``.pt`` file's dictionary; nothing in it is ever executed."""
    try:
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise AutointerpError(
            f"{path} cannot be loaded as plain tensors: {first_line(error)}; save its state_dict"
            " alone"
        ) from error
    if not isinstance(value, Mapping):
        raise AutointerpError(f"{path} must hold a dictionary of tensors")
    return value


def _is_zip(path: Path) -> bool:
    """Files written before torch 1.6 are not archives, and cannot be mapped into memory."""
    with path.open("rb") as stream:
        return stream.read(2) == b"PK"


def sha256(path: Path) -> str:
    """The content hash of a weights file, which a run records."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def info(files: Files, layout: str, weights: Path, **known: Any) -> CoderInfo:
    """What a reader knows of a checkpoint; see CoderInfo for the fields."""
    return CoderInfo(
        layout=layout, path=files.name, sha256=sha256(weights), revision=files.revision, **known
    )


def positive_int(value: Any, what: str) -> int:
    """A count from a configuration file."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not float(value).is_integer():
        raise AutointerpError(f"{what} must be a whole number, not {value!r}")
    if value < 1:
        raise AutointerpError(f"{what} must be at least 1, not {value!r}")
    return int(value)


def selection_size(value: Any, what: str, d_sae: int) -> int:
    """A k that fits the number of latents."""
    k = positive_int(value, what)
    if k > d_sae:
        raise AutointerpError(f"{what} is {k}, more than the coder's {d_sae} latents")
    return k

"""The latent cache of EleutherAI's delphi, read by its format alone.

``latents/HOOKPOINT/FIRST_LAST.safetensors`` has of latents FIRST to LAST ``locations`` [n, 3]
(row, position, latent − FIRST), ``activations`` [n] and perhaps ``tokens`` [rows, length];
``config.json`` beside it says what was read. ``run_config.json`` lies above ``latents``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from autointerp.examples.cached import Fired
from autointerp.latents import AutointerpError

AT_ONCE = 2**18  # activations
CONFIG = "config.json"
_SPLIT = re.compile(r"^(\d+)_(\d+)\.safetensors$")


class Hookpoint:
    """One coder's files. Used as a context, in which they are open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        named = sorted((int(m[1]), int(m[2]), path) for path, m in _splits(folder))
        self._splits = [_Split(path, first, last) for first, last, path in named]
        self.width = max(split.last for split in self._splits) + 1
        self.config = read_object(folder / CONFIG)

    @property
    def claims(self) -> Mapping[str, Any]:
        """What the store tells of the coder's origin."""
        return {"cache": "delphi"}

    @property
    def shape(self) -> tuple[int, int] | None:
        """Rows and their length; None if the tokens were not kept."""
        shapes = [shape for split in self._splits if (shape := split.shape("tokens"))]
        return (shapes[0][0], shapes[0][1]) if shapes else None

    def rows(self, low: int, high: int) -> NDArray[np.int32]:
        holder = next(split for split in self._splits if split.shape("tokens"))
        found: NDArray[np.int32] = holder.read("tokens", low, high).astype(np.int32)
        return found

    def until(self, place: int) -> Iterator[Fired]:
        assert self.shape is not None
        for split in self._splits:
            yield from split.until(place, self.shape)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for split in self._splits:
                stack.enter_context(split)
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


class _Split:
    """One file, whose activations are handed out in order."""

    def __init__(self, path: Path, first: int, last: int) -> None:
        self.path, self.first, self.last = path, first, last
        self._read = 0
        self._waiting = Fired(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))

    def __enter__(self) -> Self:
        try:
            opened: Any = safe_open(self.path, framework="np")
            self._file = opened.__enter__()
        except (OSError, SafetensorError) as error:
            raise AutointerpError(f"{self.path} cannot be read: {error}") from error
        missing = {"locations", "activations"} - set(self._file.keys())
        if missing:
            raise AutointerpError(f"{self.path} has no {min(missing)}; it is no delphi cache")
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def shape(self, name: str) -> list[int] | None:
        """The shape of a tensor; None if the file has it not."""
        if name not in self._file.keys():  # noqa: SIM118 - no mapping
            return None
        shape: list[int] = self._file.get_slice(name).get_shape()
        return shape

    def read(self, name: str, low: int, high: int) -> NDArray[Any]:
        """Some rows of a tensor, as far as it has them."""
        held = self._file.get_slice(name)
        size, *rest = held.get_shape()
        if low >= size:  # which the library refuses
            return np.zeros((0, *rest))
        rows: NDArray[Any] = held[low : min(high, size)]
        return rows

    def until(self, place: int, shape: tuple[int, int]) -> Iterator[Fired]:
        """The activations before a place; ``shape`` is of the rows."""
        while True:
            if not len(self._waiting.places):
                self._waiting = self._next(shape)
            count = int(np.searchsorted(self._waiting.places, place))
            if count:
                yield self._waiting.part(0, count)
                self._waiting = self._waiting.part(count, None)
            if not count or len(self._waiting.places):
                return

    def _next(self, shape: tuple[int, int]) -> Fired:
        locations = self.read("locations", self._read, self._read + AT_ONCE).astype(np.int64)
        values = self.read("activations", self._read, self._read + AT_ONCE).astype(np.float32)
        self._read += len(locations)
        row, position, latent = locations.T
        places = row * shape[1] + position
        inside = (row < shape[0]) & (position < shape[1]) & (latent <= self.last - self.first)
        if not inside.all() or (np.diff(places) < 0).any():
            raise AutointerpError(f"{self.path}: locations are not of its rows, or not in order")
        return Fired(places, (latent + self.first).astype(np.int32), values)


class Cache:
    """A cache's hook points by name, and what its run was asked for."""

    def __init__(self, source: Path) -> None:
        inner = source / "latents"
        root = inner if inner.is_dir() else source
        found = sorted({path.parent for path, _ in _splits(root, "**/*")})
        if found == [root]:
            root = root.parent
        if not found:
            raise AutointerpError(
                f"{source} is no delphi cache: no latents/HOOKPOINT/FIRST_LAST.safetensors there"
            )
        self.base = root.parent
        self.hookpoints = {path.relative_to(root).as_posix(): Hookpoint(path) for path in found}
        asked = self.base / "run_config.json"
        self.asked = read_object(asked) if asked.exists() else {}

    @property
    def model(self) -> str:
        """The subject's name. Raises AutointerpError if the hook points name several."""
        names = {str(h.config.get("model_name", "")) for h in self.hookpoints.values()}
        if len(names) != 1 or "" in names:
            told = ", ".join(sorted(names - {""})) or "none"
            raise AutointerpError(f"{self.base}: {CONFIG} must name one model_name, not {told}")
        return names.pop()


def read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object. Raises AutointerpError if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AutointerpError(f"{path} is missing; it is part of a delphi cache") from None
    except ValueError as error:
        raise AutointerpError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise AutointerpError(f"{path} is not a JSON object")
    return found


def _splits(folder: Path, pattern: str = "*") -> Iterator[tuple[Path, re.Match[str]]]:
    for path in folder.glob(f"{pattern}.safetensors"):
        if found := _SPLIT.match(path.name):
            yield path, found

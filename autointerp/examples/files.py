"""Files that are written whole or part by part, and never through a memory map."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file at once, so that no reader ever sees half of it."""
    writing = path.with_name(path.name + ".writing")
    with writing.open("w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=True)
        file.flush()
        os.fsync(file.fileno())
    writing.replace(path)


@contextmanager
def npy(
    path: Path, dtype: DTypeLike, shape: tuple[int, ...]
) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Write an .npy file part by part, through what is given, with plain writes.

    On a full disk numpy's own ways either kill the process, where the file is a memory map, or
    raise an error that does not say that the disk is full.
    """
    with path.open("wb") as file:
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

        def write(part: NDArray[Any]) -> None:
            file.write(np.ascontiguousarray(part, dtype).data)

        yield write


def save_array(path: Path, array: NDArray[Any]) -> None:
    with npy(path, array.dtype, array.shape) as write:
        write(array)


def save_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        save_array(folder / f"{name}.npy", array)


def load_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}

"""Files of the user's with one JSON value a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autointerp.latents import AutointerpError


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Tell in one line why a text file cannot be read; ``what`` names what it holds.

    Raises:
        AutointerpError: in place of OSError and UnicodeDecodeError.
    """
    try:
        yield
    except OSError as error:
        raise AutointerpError(f"cannot read the {what} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AutointerpError(f"{path} is not UTF-8 text: {error}") from error


def read_json_lines(path: Path, what: str) -> Iterator[tuple[str, Any]]:
    """Every value with its place, ``FILE:LINE``; empty lines are passed over.

    Raises:
        AutointerpError: if the file cannot be read, naming the line that is not JSON.
    """
    with reading(path, what), path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise AutointerpError(f"{path}:{number} is not JSON: {error}") from error
            yield f"{path}:{number}", value

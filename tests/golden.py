"""Golden files: rendered prompts under tests/golden/, so that a change of wording shows in review.

``AUTOINTERP_GOLDEN=write pytest …`` writes them anew from what the tests render.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from autointerp.llm.client import Message

FOLDER = Path(__file__).parent / "golden"
VARIABLE = "AUTOINTERP_GOLDEN"


def check_golden(name: str, messages: Sequence[Message]) -> None:
    """Compare ``messages`` with ``tests/golden/NAME.txt``, or write that file if asked to."""
    path = FOLDER / f"{name}.txt"
    text = "\n".join(f"──── {message.role}\n{message.content}" for message in messages) + "\n"
    data = text.encode()  # as bytes: carriage returns must survive
    if os.environ.get(VARIABLE) == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert path.exists(), f"no golden file {path}; write it with {VARIABLE}=write"
    assert path.read_bytes() == data, f"{path} differs; {VARIABLE}=write accepts it"

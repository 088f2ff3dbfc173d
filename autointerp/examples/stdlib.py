"""The default corpus: the running Python's own standard library, as text.

Every machine that can run the package has it. A document is a run of whole top-level
statements of one module, at most ``PIECE_CHARACTERS`` long where the module allows it.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

PIECE_CHARACTERS = 6000
# Codec tables and test suites are repetitive enough to drown everything else.
SKIPPED_FOLDERS = {
    "__pycache__",
    "encodings",
    "idle_test",
    "site-packages",
    "test",
    "tests",
}
SKIPPED_PREFIXES = ("_sysconfigdata", "config-")


def modules() -> list[Path]:
    """Every source file of the standard library that belongs to the corpus, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    return [
        path
        for path in sorted(root.rglob("*.py"))
        if not SKIPPED_FOLDERS & set(path.relative_to(root).parts[:-1])
        and not path.name.startswith(SKIPPED_PREFIXES)
        and not any(part.startswith(SKIPPED_PREFIXES) for part in path.relative_to(root).parts)
    ]


def pieces(text: str) -> Iterator[str]:
    """Cut a module's text before top-level lines, into runs of about ``PIECE_CHARACTERS``."""
    piece: list[str] = []
    length = 0
    for line in text.splitlines(keepends=True):
        starts_statement = line[:1].isalpha() or line[:1] in "@_#"
        after_blank = bool(piece) and not piece[-1].strip()
        if piece and starts_statement and after_blank and length + len(line) > PIECE_CHARACTERS / 2:
            yield "".join(piece)
            piece, length = [], 0
        if piece and length + len(line) > PIECE_CHARACTERS:
            yield "".join(piece)
            piece, length = [], 0
        piece.append(line)
        length += len(line)
    if piece:
        yield "".join(piece)


def texts() -> Iterator[str]:
    """Yield the documents of the standard library in a fixed order."""
    for path in modules():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        yield from (piece for piece in pieces(text) if piece.strip())

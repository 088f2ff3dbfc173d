"""Where a document's windows and rows lie, and the file that holds all tokens.

A document's windows start at its *head* (a hash-derived offset) and follow each other without
gaps; only whole windows are kept as examples. Rows are what the subject reads at once: they
are cut at window boundaries, so that a window never spans two rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Hash = NDArray[np.uint64]

DOCUMENT = np.dtype(
    [
        ("offset", "<u8"),  # of its first token in the token file
        ("hash", "<u8"),  # of its normalised text
        ("first_window", "<u4"),  # number of its first window among all windows
        ("length", "<u4"),  # in tokens
        ("head", "<u2"),
        ("split", "<u2"),
    ]
)
LEFT_CONTEXT = 32
COPIED_AT_ONCE = 2**24  # bytes


def splitmix64(values: Hash) -> Hash:
    """The finaliser of the splitmix64 generator: a bijection of 64-bit numbers that mixes well.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hash = z ^ (z >> np.uint64(31))
    return mixed


def mix(values: Hash, salt: int) -> Hash:
    """Hash 64-bit numbers together with one salt."""
    return splitmix64(values ^ splitmix64(np.array([salt % 2**64], np.uint64)))


def ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenate ``arange(start, start + count)`` for every pair of the two arrays."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()))


@dataclass(frozen=True)
class Geometry:
    """How documents are cut: ``window`` tokens a window, ``content`` tokens a row at most."""

    window: int
    content: int

    @classmethod
    def of(cls, window: int, context_length: int) -> Geometry:
        """The geometry for a subject that reads ``context_length`` tokens, BOS included."""
        return cls(window, window * ((context_length - 1) // window))

    def head(self, document_hash: int, seed: int, length: int) -> int:
        """Where the first window starts; chosen so that a long enough document has one."""
        choices = min(self.window, length - self.window + 1)
        if choices <= 1:
            return 0
        return int(mix(np.array([document_hash], np.uint64), seed)[0] % np.uint64(choices))

    def windows(self, length: int, head: int) -> int:
        """Number of whole windows in a document of ``length`` tokens."""
        return max(0, length - head) // self.window

    def first_row(self, head: int) -> int:
        """Length of a document's first row, if the document is that long."""
        return head + self.window * ((self.content - head) // self.window)

    def rows(self, length: int, head: int) -> list[tuple[int, int]]:
        """The (start, end) of every row of a document, in tokens of the document."""
        first = self.first_row(head)
        bounds = [0, *range(first, length, self.content), length] if first < length else [0, length]
        return list(pairwise(bounds))

    def row_start(self, head: int, position: int) -> int:
        """The first token of the row that holds the document's token ``position``."""
        first = self.first_row(head)
        if position < first:
            return 0
        return first + (position - first) // self.content * self.content


def token_dtype(vocabulary: int) -> np.dtype[np.unsignedinteger]:
    """Two bytes a token where the vocabulary allows it, else four."""
    return np.dtype("<u2") if vocabulary <= 2**16 else np.dtype("<u4")


class TokenLog:
    """The append-only files of tokens and documents: all that grows with the corpus."""

    def __init__(self, directory: Path, vocabulary: int, documents: int = 0, tokens: int = 0):
        """Open for appending; what lies beyond ``documents`` and ``tokens`` is cut off."""
        self.dtype = token_dtype(vocabulary)
        self.documents = documents
        self.tokens = tokens
        self._tokens = _open_at(directory / "tokens.bin", tokens * self.dtype.itemsize)
        self._documents = _open_at(directory / "documents.bin", documents * DOCUMENT.itemsize)

    def append(self, tokens: NDArray[np.generic], records: NDArray[np.void]) -> None:
        """Add documents; ``records`` are DOCUMENT, their offsets relative to ``tokens``."""
        records = records.copy()
        records["offset"] += np.uint64(self.tokens)
        self._tokens.write(tokens.astype(self.dtype).tobytes())
        self._documents.write(records.tobytes())
        self.tokens += len(tokens)
        self.documents += len(records)

    def extend(self, tokens: Path, records: NDArray[np.void]) -> None:
        """Add the documents of another log, given its token file, a block at a time."""
        self.append(np.zeros(0, self.dtype), records)
        with tokens.open("rb") as file:
            while block := file.read(COPIED_AT_ONCE):
                self._tokens.write(block)
        self.tokens += int(records["length"].sum())

    def flush(self) -> None:
        self._tokens.flush()
        self._documents.flush()

    def close(self) -> None:
        self._tokens.close()
        self._documents.close()


def _open_at(path: Path, size: int) -> BinaryIO:
    file = path.open("r+b" if path.exists() else "w+b")
    file.truncate(size)
    file.seek(size)
    return file

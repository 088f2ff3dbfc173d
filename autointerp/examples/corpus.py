"""Sources of text, and which split a document belongs to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from autointerp.examples import stdlib
from autointerp.latents import SPLITS, AutointerpError, Split

TEXT_SUFFIXES = (".jsonl", ".parquet", ".txt")
# One file may be the size of a corpus; a document must fit into memory many times over.
LONGEST_DOCUMENT = 200_000


def documents(source: str | Path, column: str = "text") -> Iterator[str]:
    """Yield the non-empty texts of a source in a fixed order.

    ``source`` is ``stdlib``, a .jsonl, .txt or .parquet file, a folder of such files, or the
    id of a Hugging Face data set (streamed; ``id:split`` or ``id:configuration:split`` choose
    other than ``train``). ``column`` names the text in .jsonl, .parquet and data sets. A .txt
    file is one document. Texts of more than 200,000 characters are cut at line ends.

    Raises:
        AutointerpError: before the first text, if the source, its column or all text is absent;
            of a folder, if any file's first row lacks the column. Later, for later rows.
    """
    texts = _pieces(text for text in _texts(str(source), column) if text.strip())
    first = next(texts, None)
    if first is None:
        raise AutointerpError(f"corpus {source} holds no text")
    return _chain(first, texts)


def document_hash(text: str) -> int:
    """A 64-bit hash of a text's content: case and white space do not change it."""
    normalised = " ".join(text.lower().split())
    digest = hashlib.blake2b(normalised.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def split_index(document: int, shares: Sequence[float] = (0.4, 0.2, 0.4)) -> int:
    """The split, as an index into SPLITS, of the document with this hash."""
    # The low bits choose the split, so that hashes of windows stay independent of it.
    position = (document % 2**32) / 2**32 * sum(shares)
    return 0 if position < shares[0] else 1 if position < shares[0] + shares[1] else 2


def split_of(text: str, shares: Sequence[float] = (0.4, 0.2, 0.4)) -> Split:
    """The split a document belongs to, by its content alone: copies share a split."""
    return SPLITS[split_index(document_hash(text), shares)]


def _chain(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _pieces(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        while len(text) > LONGEST_DOCUMENT:
            cut = text.rfind("\n", LONGEST_DOCUMENT // 2, LONGEST_DOCUMENT) + 1 or LONGEST_DOCUMENT
            yield text[:cut]
            text = text[cut:]
        if text.strip():
            yield text


def _texts(source: str, column: str) -> Iterator[str]:
    if source == "stdlib":
        return stdlib.texts()
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(path, column)
    if path.is_file():
        return _file(path, column)
    if path.suffix in TEXT_SUFFIXES or source.startswith((".", "/", "~")):
        raise AutointerpError(f"corpus {source} does not exist")
    return _dataset(source, column)


def _folder(folder: Path, column: str) -> Iterator[str]:
    found = (path for path in folder.rglob("*") if path.suffix in TEXT_SUFFIXES)
    files = sorted(path for path in found if path.is_file())
    if not files:
        raise AutointerpError(f"corpus {folder} holds no {', '.join(TEXT_SUFFIXES)} files")
    for path in files:  # a column that is not there is found now, not hours later
        if path.suffix != ".txt":
            next(_file(path, column), None)
    for path in files:
        yield from _file(path, column)


def _file(path: Path, column: str) -> Iterator[str]:
    if not os.access(path, os.R_OK, effective_ids=True):
        raise AutointerpError(f"corpus {path} may not be read; change its permissions")
    if path.suffix == ".jsonl":
        return _jsonl(path, column)
    if path.suffix == ".parquet":
        return _parquet(path, column)
    if path.suffix == ".txt":
        return iter([_decode(path)])
    raise AutointerpError(f"corpus {path} is not one of {', '.join(TEXT_SUFFIXES)} or a folder")


def _decode(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise AutointerpError(f"corpus {path} cannot be read as UTF-8 text: {error}") from error


def _jsonl(path: Path, column: str) -> Iterator[str]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise AutointerpError(
                    f"corpus {path} line {number} is not JSON: {error}"
                ) from error
            if not isinstance(row, dict):
                raise AutointerpError(f"corpus {path} line {number} is not a JSON object")
            yield _cell(row, column, f"{path} line {number}")


def _parquet(path: Path, column: str) -> Iterator[str]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise AutointerpError(f"reading {path} needs pyarrow: pip install pyarrow") from error
    try:
        file = parquet.ParquetFile(path)
    except ArrowException as error:
        raise AutointerpError(f"corpus {path} is not a parquet file: {error}") from error
    names = file.schema_arrow.names
    if column not in names:
        raise AutointerpError(_no_column(str(path), column, names))
    for batch in file.iter_batches(batch_size=1024, columns=[column]):
        yield from (text for text in batch.column(0).to_pylist() if text)


def _dataset(name: str, column: str) -> Iterator[str]:
    try:
        import datasets
    except ImportError as error:
        raise AutointerpError(
            f"corpus {name} is no file or folder; as a Hugging Face data set it needs"
            " the package datasets: pip install datasets"
        ) from error
    identity, *rest = name.split(":")
    configuration, split = (rest[0], rest[1]) if len(rest) == 2 else (None, (rest or ["train"])[0])
    try:
        rows = datasets.load_dataset(identity, configuration, split=split, streaming=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise AutointerpError(
            f"corpus {name} is no file or folder, nor a data set that loads: {reason}"
        ) from error
    for row in rows:
        yield _cell(row, column, name)


def _cell(row: dict[str, Any], column: str, where: str) -> str:
    if column not in row:
        raise AutointerpError(_no_column(where, column, list(row)))
    text = row[column]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise AutointerpError(f"corpus {where}: column {column!r} is not text")
    return text


def _no_column(where: str, column: str, names: Sequence[str]) -> str:
    return f"corpus {where} has no column {column!r}; it has {', '.join(map(repr, names))}"

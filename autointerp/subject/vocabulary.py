"""The text of each token, which tokenizers write in three ways."""

from __future__ import annotations

from typing import Any

from autointerp.latents import AutointerpError
from autointerp.sections import DEMO
from autointerp.subject.reasons import first_line


def token_texts(tokenizer: Any, size: int) -> list[str]:
    """The text of every token id below ``size``; a leading space stays, bytes are decoded.

    Bytes that are no UTF-8 by themselves are replaced; an id without a token is "".
    """
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_tokens)
    byte_level = "ĉ" in names or "Ċ" in names or any(n and "Ġ" in n for n in names)
    table = _byte_table() if byte_level else {}
    texts = [
        "" if n is None else n if n in special else _token_text(n, table) for n in names[:size]
    ]
    return texts + [""] * (size - len(texts))


def _token_text(name: str, table: dict[str, int]) -> str:
    if table:
        if any(c not in table for c in name):
            return name  # an added token, which is plain text
        return bytes(table[c] for c in name).decode("utf-8", "replace")
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)]).decode("utf-8", "replace")
    return name.replace("▁", " ")


def _byte_table() -> dict[str, int]:
    """Byte-level BPE writes printable Latin-1 bytes as themselves, the rest from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in plain}
    rest = [byte for byte in range(256) if byte not in set(plain)]
    return table | {chr(0x100 + i): byte for i, byte in enumerate(rest)}


def model_vocabulary(model: str) -> list[str]:
    """The text of each token of a model in a folder or on the hub; ``demo`` is built in.

    Raises:
        AutointerpError: if there is no such tokenizer.
    """
    from transformers import AutoTokenizer  # seconds of imports

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(DEMO) if model == "demo" else model)
    except (OSError, ValueError) as error:
        raise AutointerpError(
            f"cannot load a tokenizer of {model!r}: {first_line(error)}"
        ) from error
    return token_texts(tokenizer, len(tokenizer))

"""A subject without its weights: how it reads texts, and what tells it from others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from autointerp.subject.vocabulary import token_texts


class Outline:
    """What can be known of a subject in a process that does not hold it; it can be pickled.

    The first position of a context attends to itself alone, and its activations are like no
    other's. Where the tokenizer has a BOS, every row runs with BOS before it, and BOS's own
    activations are never given, whatever ``bos`` says. Where it has none, a row's first token
    stands there: ``bos: skip`` leaves it out of everything, ``bos: keep`` treats it as any
    other. ``masked`` is how many leading tokens of every row are to be left out: 1 in the case
    just named, else 0.

    ``context_length`` counts BOS. ``vocabulary`` maps token ids to text; it has at least ``size``
    of them.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        name: str,
        revision: str | None,
        dtype: torch.dtype,
        context_length: int,
        bos: Literal["skip", "keep"],
        size: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.name, self.revision, self.dtype = name, revision, dtype
        self.context_length = context_length
        self.bos: Literal["skip", "keep"] = bos
        self.bos_id: int | None = tokenizer.bos_token_id
        self.masked = int(self.bos_id is None and bos == "skip")
        self.vocabulary: list[str] = token_texts(tokenizer, max(len(tokenizer), size))

    def outline(self) -> Outline:
        """This alone, without the rest of a subject."""
        return Outline(
            self.tokenizer,
            name=self.name,
            revision=self.revision,
            dtype=self.dtype,
            context_length=self.context_length,
            bos=self.bos,
            size=len(self.vocabulary),
        )

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        return [int(i) for i in self.encode_texts([text])[0]]

    def encode_texts(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Token ids of many texts, without special tokens."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            encoded = backend.encode_batch_fast(list(texts), add_special_tokens=False)
            return [np.array(e.ids, np.int32) for e in encoded]
        encoded = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [np.array(ids, np.int32) for ids in encoded]

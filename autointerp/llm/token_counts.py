"""How many tokens a prompt has, before anybody has counted them; and which a cache would hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from autointerp.llm.servers import is_openai
from autointerp.sections import LLMSection

CHARACTERS_PER_TOKEN = 4  # of a prompt as JSON, where no tokenizer is at hand
TOKENS_PER_TURN = 4  # that a chat template puts around a turn
BLOCK = 64  # characters that a prefix cache keeps or lacks together: 16 tokens, as in vLLM
OPENAI_LEAST, OPENAI_STEP = 1024, 128  # tokens; OpenAI caches no shorter prompts, and in steps

Turns = Iterable[Mapping[str, Any]]


class Counter:
    """Counts as one model does: with its own tokenizer where that is on this machine."""

    def __init__(self, section: LLMSection) -> None:
        self._encode = _tokenizer(section.model)

    @property
    def exact(self) -> bool:
        """Whether the model's own tokenizer counts."""
        return self._encode is not None

    def prompt(self, turns: Turns) -> int:
        """Tokens of a prompt of these turns."""
        if self._encode is None:
            return len(json.dumps(list(turns))) // CHARACTERS_PER_TOKEN
        return sum(self._encode(turn["content"]) + TOKENS_PER_TURN for turn in turns)

    def text(self, text: str) -> int:
        """Tokens of a reply."""
        if self._encode is None:
            return len(text) // CHARACTERS_PER_TOKEN + 1
        return self._encode(text) + 1


def _tokenizer(model: str) -> Callable[[str], int] | None:
    """Of a folder, or of a model in the hub's cache; nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from tokenizers import Tokenizer

    path = Path(model) / "tokenizer.json"
    if not path.is_file():
        try:
            cached = try_to_load_from_cache(model, "tokenizer.json")
        except HFValidationError:  # no model of the hub has such a name
            return None
        if not isinstance(cached, str):
            return None
        path = Path(cached)
    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


class PrefixCache:
    """Simulates a server that keeps the beginnings of all prompts in blocks.

    OpenAI's begins at 1,024 tokens and goes by 128.
    """

    def __init__(self, section: LLMSection) -> None:
        self._least, self._step = (OPENAI_LEAST, OPENAI_STEP) if is_openai(section) else (0, 1)
        self._held: set[bytes] = set()

    def cached(self, turns: Turns, tokens: int) -> int:
        """How many of a prompt's ``tokens`` were held; the prompt is held from now on."""
        text = "".join(f"{turn['role']}\0{turn['content']}\0" for turn in turns).encode()
        digest, held, found = blake2b(digest_size=8), 0, True
        for start in range(0, len(text) - BLOCK + 1, BLOCK):
            digest.update(text[start : start + BLOCK])
            key = digest.digest()
            found = found and key in self._held
            held += found
            self._held.add(key)
        if tokens < self._least:
            return 0
        share = held * BLOCK / max(1, len(text))
        return int(share * tokens) // self._step * self._step

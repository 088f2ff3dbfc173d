"""How windows are written into prompts: text as JSON strings, one line each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from autointerp.judges import Marks
from autointerp.latents import Example
from autointerp.latents.windows import once_a_vocabulary
from autointerp.latents.windows import separator as separator

MARK, END = "«", "»"
_quote = json.JSONEncoder(ensure_ascii=False).encode
_NONE = -1  # in place of a token before a text begins
_ESCAPED = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in (MARK, END)})


def quoted(text: str) -> str:
    """A JSON string with letters of every script as themselves: always one line."""
    return _quote(text)


def alone(examples: Sequence[Example]) -> bool:
    """Whether these windows come without the tokens before them."""
    return all(not example.block.left_ids.shape[1] for example in examples)


def shown(examples: Sequence[Example]) -> list[dict[str, str]]:
    """The ``text`` of each window and the up to 32 tokens ``before`` it, quoted."""
    if not examples:
        return []
    written = _written(examples[0].vocabulary).plain
    return [{"before": written.before(e), "text": written.text(e)} for e in examples]


class Plain(NamedTuple):
    """A window as it reads: ``before`` and ``text``, one after the other, are the document."""

    before: str
    text: str


def plain(examples: Sequence[Example]) -> list[Plain]:
    """Each window and the up to 32 tokens before it, unquoted."""
    between = separator(examples[0].vocabulary) if examples else ""
    return [
        Plain(
            between.join([*example.left_context, ""]) if between else "".join(example.left_context),
            between.join(example.tokens),
        )
        for example in examples
    ]


def marked(examples: Sequence[Example], marks: Sequence[Marks]) -> list[dict[str, str]]:
    """As :func:`shown`, each run of marked tokens between ``«`` and ``»``.

    Where a text itself holds these signs, JSON's ``\\u00ab`` and ``\\u00bb`` stand for them; so
    every sign that is seen is a mark.
    """
    if not examples:
        return []
    written = _written(examples[0].vocabulary).beside_marks
    return [
        {"before": written.before(e), "text": written.marked(e, mask)}
        for e, mask in zip(examples, marks, strict=True)
    ]


class _Written:
    """The texts of tokens as they stand inside a JSON string, written when first asked for.

    Escapes are single signs', so that tokens may be escaped one by one, and once; ``escapes`` are
    some besides JSON's own.
    """

    def __init__(self, vocabulary: Sequence[str], between: str, escapes: Mapping[int, str]) -> None:
        self._vocabulary = vocabulary
        self._between = between
        self._escapes = escapes
        self._texts: list[str | None] = [None] * len(vocabulary)

    def before(self, example: Example) -> str:
        """The tokens before the window, quoted."""
        block, row = example
        ids = block.left_ids[row].tolist()
        return f'"{self._between.join(self._tokens(ids[ids.count(_NONE) :]))}"'

    def text(self, example: Example) -> str:
        """The window, quoted."""
        block, row = example
        return f'"{self._between.join(self._tokens(block.token_ids[row].tolist()))}"'

    def marked(self, example: Example, marks: Marks) -> str:
        """The window, quoted, each run of marked tokens between the signs."""
        block, row = example
        tokens = self._tokens(block.token_ids[row].tolist())
        places = set(marks.nonzero()[0].tolist())
        for place in places:
            if place - 1 not in places:
                tokens[place] = MARK + tokens[place]
            if place + 1 not in places:
                tokens[place] += END
        return f'"{self._between.join(tokens)}"'

    def _tokens(self, ids: Sequence[int]) -> list[str]:
        texts = self._texts
        return [texts[i] or self._write(i) for i in ids]

    def _write(self, token: int) -> str:
        text = quoted(self._vocabulary[token])[1:-1].translate(self._escapes)
        self._texts[token] = text
        return text


class _Tables:
    """How the tokens of a vocabulary are written, and how where there are marks."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        between = separator(vocabulary)
        self.plain = _Written(vocabulary, between, {})
        self.beside_marks = _Written(vocabulary, between, _ESCAPED)


_written = once_a_vocabulary(_Tables)

"""Texts written from an explanation alone: on which its latent should fire, and just not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import count, islice
from typing import Annotated, Any, NamedTuple, Protocol, Self

import numpy as np
from pydantic import BaseModel, Field, create_model, model_validator

from ..judges import NoVerdict
from ..latents import AutointerpError, Background
from ..llm.client import LLMClient, LLMFailure
from ..llm.templates import Templates, ask
from ..patterns import Lexicon, Pattern, Windows, parse
from ..patterns.reading import Encode, Reader, background_row
from ..patterns.writing import Joiner, Rng, Writer, Written, cycled
from ..statistics import derived_generator
from . import Materials

JOINED_BY = 8  # windows that tell how tokens join to a text
ATTEMPTS = 4  # for each text that is wanted


class Wanted(NamedTuple):
    """How many texts of each kind."""

    activating: int
    near_misses: int


class Texts(Protocol):
    """Writes texts."""

    async def write(
        self, explanation: str, materials: Materials, wanted: Wanted
    ) -> list[str | NoVerdict]:
        """The activating ones, then the near misses; why there is none in place of one that
        could not be written. No two are equal."""
        ...


class PatternTexts:
    """Without a language model, for explanations that are patterns.

    Activating texts are stretches of background windows with what the pattern asks for put into
    them, or stretches of those in which it matches anyway. A near miss is one of them with one
    token changed, or its matching token without its context. What is known of the latent is not
    looked at.
    """

    def __init__(self, encode: Encode, seed: int) -> None:
        self._encode, self._seed = encode, seed
        self._background: Background | None = None

    async def write(
        self, explanation: str, materials: Materials, wanted: Wanted
    ) -> list[str | NoVerdict]:
        """Raises:
        AutointerpError: if the explanation is not a pattern, or there is no background.
        """
        if materials.background is None or not len(materials.background.token_ids):
            raise AutointerpError("generation by a pattern needs background windows of TEST")
        self._get_ready(materials.background)
        rng = derived_generator(self._seed, materials.latent, "generation")
        composed = _Composer(self._writer, materials.background, parse(explanation), rng)
        bases = composed.activating(wanted.activating)
        misses = composed.near_misses(bases, wanted.near_misses)
        return [
            *_padded([base.text for base in bases], wanted.activating, "the pattern holds"),
            *_padded(misses, wanted.near_misses, "the pattern just fails"),
        ]

    def _get_ready(self, background: Background) -> None:
        """The writer of this background, which all latents of a run share."""
        if self._background is background:
            return
        tokens, vocabulary = background.token_ids, background.vocabulary
        ids, counts = np.unique(tokens, return_counts=True)
        seen = [vocabulary[i] for i in ids[np.argsort(-counts, kind="stable")].tolist()]
        reader = Reader(Lexicon(vocabulary), self._encode)
        join = Joiner.fitting(self._encode, vocabulary, tokens[:JOINED_BY])
        self._background = background
        self._writer = Writer(reader, join, background, np.arange(len(tokens)), seen)


class _Composer:
    """Composes the texts of one pattern, all different."""

    def __init__(self, writer: Writer, background: Background, pattern: Pattern, rng: Rng) -> None:
        self.writer, self.background, self.pattern, self.rng = writer, background, pattern, rng
        self._taken: set[str] = set()

    def activating(self, wanted: int) -> list[Written]:
        """By turns what every clause asks for put into a frame, and a match in real text; fewer
        where the pattern asks for what is neither."""
        clauses, natural = cycled(self.pattern.clauses, self.rng), self._natural()

        def attempts() -> Iterator[Written | None]:
            for clause in clauses:
                yield self.writer.spliced(self.pattern, clause, self.rng) or next(natural, None)
                yield next(natural, None)

        return self._new(attempts(), wanted)

    def near_misses(self, bases: Sequence[Written], wanted: int) -> list[str]:
        """By turns of the texts in ``bases``; of foreign text where there are none."""

        def attempts() -> Iterator[Written | None]:
            for number in count():
                if bases:
                    yield self._miss(bases, number)
                else:
                    yield self.writer.foreign(self.pattern, self.rng)

        return [written.text for written in self._new(attempts(), wanted)]

    def _miss(self, bases: Sequence[Written], number: int) -> Written | None:
        """First each text with its matching token changed, a little where that can be; then by
        turns with one of its context changed, and the pattern's token without its context."""
        base, again = bases[number % len(bases)], number >= len(bases)
        if not again:
            alike = self.writer.lookalike(self.pattern, base, self.rng)
            return alike or self.writer.edited(self.pattern, base, self.rng, 0)
        conditioned = [c for c in self.pattern.clauses if c.conditions or c.exceptions]
        if number % 2 and conditioned:
            clause = conditioned[int(self.rng.integers(len(conditioned)))]
            bare = self.writer.bare(self.pattern, clause, self.rng)
            if bare is not None:
                return bare
        turn = 1 + int(self.rng.integers(max(1, len(base.context))))
        return self.writer.edited(self.pattern, base, self.rng, turn)

    def _natural(self) -> Iterator[Written]:
        """Around matches in background windows, whatever the latent does in them."""
        background, lexicon = self.background, self.writer.reader.lexicon
        windows = Windows(lexicon, background.token_ids, background.left_ids)
        rows = np.flatnonzero(windows.matches(self.pattern).any(axis=1))
        for row in self.rng.permutation(rows).tolist():
            ids = background_row(background, row)
            start = len(ids) - background.token_ids.shape[1]
            written = self.writer.natural(self.pattern, ids, start, self.rng)
            if written is not None:
                yield written

    def _new(self, attempts: Iterator[Written | None], wanted: int) -> list[Written]:
        """The first texts that are not there yet."""
        found: list[Written] = []
        for written in islice(attempts, ATTEMPTS * wanted):
            if len(found) == wanted:
                break
            if written is not None and written.text not in self._taken:
                self._taken.add(written.text)
                found.append(written)
        return found


def _padded(texts: Sequence[str], wanted: int, what: str) -> list[str | NoVerdict]:
    missing = NoVerdict(f"{len(texts)} of {wanted} texts were found in which {what}")
    return [*texts, *[missing] * (wanted - len(texts))]


class Generated(BaseModel):
    """A reply: texts on which the latent should fire, and some on which it just should not."""

    activating: list[str]
    near_misses: list[str] = []

    @model_validator(mode="after")
    def _all_different(self) -> Self:
        texts = [text.strip() for text in (*self.activating, *self.near_misses)]
        if not all(texts):
            raise ValueError("a text is empty")
        if len(set(texts)) < len(texts):
            twice = Counter(texts).most_common(1)[0][0]
            raise ValueError(f"this text is written twice: {twice[:100]!r}")
        return self


@cache
def _generated(wanted: Wanted) -> type[Generated]:
    """The reply of so many texts of each kind; any other number is refused."""

    def exactly(number: int) -> Any:
        return (Annotated[list[str], Field(min_length=number, max_length=number)], ...)

    fields = {"activating": exactly(wanted.activating)}
    if wanted.near_misses:
        fields["near_misses"] = exactly(wanted.near_misses)
    return create_model("Texts", __base__=Generated, **fields)


class LLMTexts:
    """Asks a language model for all texts at once."""

    def __init__(self, client: LLMClient, templates: Templates, *, max_tokens: int) -> None:
        self._client, self._templates, self._max_tokens = client, templates, max_tokens

    async def write(
        self, explanation: str, materials: Materials, wanted: Wanted
    ) -> list[str | NoVerdict]:
        """Without a usable reply, no text.

        Raises:
            BudgetExhausted: if a budget is spent.
            AutointerpError: if the endpoint refuses every request.
        """
        try:
            texts, _ = await ask(
                self._client,
                self._templates,
                "judge/generation",
                _generated(wanted),
                {"explanation": explanation, **wanted._asdict()},
                max_tokens=self._max_tokens,
                purpose="judge.generation",
            )
        except LLMFailure as failure:
            return [NoVerdict(failure.reason)] * sum(wanted)
        return [*texts.activating, *texts.near_misses]

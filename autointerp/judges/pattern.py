"""A judge without an LLM: an explanation that is a pattern is run on the windows' tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autointerp.judges import Marks, NoVerdict, Pick, Verdict
from autointerp.latents import Background, Example, LatentId
from autointerp.patterns import Lexicon, Windows, parse
from autointerp.registry import Options, judges
from autointerp.statistics import derived_generator


@judges.register("pattern")
class PatternJudge:
    """Says yes to a window in which the pattern matches anywhere, and to marked tokens of which
    it matches most."""

    name = "pattern"

    def __init__(self, options: Options | None = None, seed: int = 0) -> None:
        self._lexicon = Lexicon([])
        self._seed = seed
        self._background: tuple[Background, Windows] | None = None

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        """One verdict an example, from its tokens alone.

        Raises:
            AutointerpError: if the explanation is not a pattern.
        """
        everywhere = [np.ones(len(example.token_ids), dtype=bool) for example in examples]
        held = self._held(explanation, examples, everywhere)
        return [Verdict(bool(count)) for count, _ in held]

    async def fuzz(
        self,
        explanation: str,
        examples: Sequence[Example],
        marks: Sequence[Marks],
        *,
        latent: LatentId,
    ) -> list[Verdict | NoVerdict]:
        """Yes where the pattern matches at more than half of the marked tokens.

        Raises:
            AutointerpError: if the explanation is not a pattern.
        """
        held = self._held(explanation, examples, marks)
        return [Verdict(2 * count > marked) for count, marked in held]

    async def choose(
        self, explanations: Sequence[str], examples: Sequence[Example], *, latent: LatentId
    ) -> list[Pick | NoVerdict]:
        """For each window the pattern that matches it and fewest of the others.

        Between patterns alike in that, and where none matches, chance decides.

        Raises:
            AutointerpError: if an explanation is not a pattern.
        """
        found = [await self.detect(text, examples, latent=latent) for text in explanations]
        hits = np.array([[isinstance(v, Verdict) and v.label for v in row] for row in found])
        return [Pick(self._pick(hits, place, e, latent)) for place, e in enumerate(examples)]

    def _pick(self, hits: NDArray[np.bool_], place: int, example: Example, latent: LatentId) -> int:
        """Of ``hits`` [explanations, windows] the row to choose for one window."""
        matching = np.flatnonzero(hits[:, place])
        if len(matching):
            counts = hits[matching].sum(axis=1)
            matching = matching[counts == counts.min()]
        candidates = matching if len(matching) else np.arange(len(hits))
        rng = derived_generator(self._seed, latent, "choose", example.document, example.start)
        return int(rng.choice(candidates))

    def covers(self, explanation: str, background: Background) -> NDArray[np.bool_]:
        """[n] in which windows of ``background`` the pattern matches.

        Raises:
            AutointerpError: if the explanation is not a pattern.
        """
        if self._background is None or self._background[0] is not background:
            lexicon = self._lexicon_of(background.vocabulary)
            windows = Windows(lexicon, background.token_ids, background.left_ids)
            self._background = background, windows
        found = self._background[1].matches(parse(explanation))
        return np.asarray(found.any(axis=1))

    def promoted(self, explanation: str, vocabulary: Sequence[str]) -> NDArray[np.bool_]:
        """[vocabulary] the tokens that a clause of the pattern asks for; conditions are ignored.

        Raises:
            AutointerpError: if the explanation is not a pattern.
        """
        lexicon = self._lexicon_of(vocabulary)
        named = np.zeros(len(vocabulary) + 1, dtype=bool)
        for clause in parse(explanation).clauses:
            for atom in clause.match:
                named |= lexicon.mask(atom)
        return named[:-1]

    def _held(
        self, explanation: str, examples: Sequence[Example], marks: Sequence[Marks]
    ) -> list[tuple[int, int]]:
        """At how many of each window's marked tokens the pattern matches, and how many there
        are."""
        pattern = parse(explanation)
        by_length: dict[int, list[int]] = {}
        for index, example in enumerate(examples):
            by_length.setdefault(len(example.token_ids), []).append(index)
        held = [(0, 0)] * len(examples)
        for indices in by_length.values():
            windows = self._windows([examples[index] for index in indices])
            marked = np.stack([marks[index] for index in indices])
            matched = (windows.matches(pattern) & marked).sum(axis=1)
            counts = zip(matched.tolist(), marked.sum(axis=1).tolist(), strict=True)
            for index, (count, of) in zip(indices, counts, strict=True):
                held[index] = (count, of)
        return held

    def _windows(self, examples: Sequence[Example]) -> Windows:
        return Windows(self._lexicon_of(examples[0].vocabulary), *stacked(examples))

    def _lexicon_of(self, vocabulary: Sequence[str]) -> Lexicon:
        if self._lexicon.vocabulary is not vocabulary:
            self._lexicon = Lexicon(vocabulary)
        return self._lexicon


def stacked(examples: Sequence[Example]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Token ids [n, window] and left ids [n, longest], padded on the left with −1."""
    longest = max(example.block.left_ids.shape[1] for example in examples)
    left = np.full((len(examples), longest), -1, dtype=np.int32)
    for row, (block, place) in enumerate(examples):
        left[row, longest - block.left_ids.shape[1] :] = block.left_ids[place]
    return np.stack([block.token_ids[place] for block, place in examples]), left

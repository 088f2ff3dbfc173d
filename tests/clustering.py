"""A judge that reads no explanation: it goes by what the texts of a prompt have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from autointerp.judges import Marks, NoVerdict, Verdict
from autointerp.judges.llm import LLMJudgeOptions
from autointerp.judges.pairs import TextPair
from autointerp.latents import Example, LatentId

PROMPT = LLMJudgeOptions().texts_per_prompt


@dataclass
class Clustering:
    """Takes the texts of a prompt that share the rarest token for those of the latent.

    ``known`` counts the texts of the corpus in which each token occurs. Marks mean nothing to it.
    """

    known: Counter[int]
    name: str = "clustering"

    def labels(self, texts: Sequence[frozenset[int]]) -> list[bool]:
        """One a text, given by its tokens."""
        found: list[bool] = []
        for start in range(0, len(texts), PROMPT):
            prompt = texts[start : start + PROMPT]
            counts = Counter(chain.from_iterable(prompt))
            shared = [token for token, count in counts.items() if count > 1]
            rarest = min(shared, key=lambda token: (self.known[token], token), default=None)
            found += [rarest in text for text in prompt]
        return found

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        texts = [frozenset(example.token_ids.tolist()) for example in examples]
        return [Verdict(label, None) for label in self.labels(texts)]

    async def fuzz(
        self,
        explanation: str,
        examples: Sequence[Example],
        marks: Sequence[Marks],
        *,
        latent: LatentId,
    ) -> list[Verdict | NoVerdict]:
        return await self.detect(explanation, examples, latent=latent)


@dataclass
class PairClustering:
    """Prefers the continuation of which more words stand in other continuations of the prompt."""

    name: str = "clustering"

    async def prefer(self, explanation: str, pairs: Sequence[TextPair]) -> list[int | NoVerdict]:
        found: list[int | NoVerdict] = []
        for start in range(0, len(pairs), PROMPT):
            prompt = pairs[start : start + PROMPT]
            texts = [set(text.split()) for pair in prompt for text in (pair.first, pair.second)]
            counts = Counter(chain.from_iterable(texts))
            first, second = ([sum(map(counts.__getitem__, t)) for t in texts[i::2]] for i in (0, 1))
            found += [int(b > a) for a, b in zip(first, second, strict=True)]
        return found

"""A latent's EXPLAIN windows as an agent uses them: distinct, clustered, some held back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autointerp.explainers.agent.roles import Cluster, Excerpt
from autointerp.latents import Evidence, Example, LatentId
from autointerp.latents.scales import Scale, distinct, span
from autointerp.patterns.matching import core
from autointerp.patterns.reading import Encode
from autointerp.patterns.writing import Joiner
from autointerp.statistics import derived_generator

HELD_BACK, MOST_HELD_BACK = 0.25, 20
MOST_CLUSTERS, EXCERPTS = 8, 3
MOST_INACTIVE = 8
LEFT_SHOWN = 12
NEAR = 4  # tokens around a peak whose words are its topic
COMMON = 0.05  # share of background windows above which a word tells no topic
_FEATURES = ((0, 1.0), (-1, 0.6), (-2, 0.4))  # tokens by distance from the peak, and their weight


@dataclass(frozen=True, eq=False)
class Exemplars:
    """What an agent knows of a latent before it measures anything.

    ``shown`` is the evidence without the windows of ``held_back``, which no role ever sees.
    """

    latent: LatentId
    shown: Evidence
    distinct: list[Example]  # of ``shown``, strongest first
    held_back: list[Example]
    scale: Scale
    join: Joiner

    @classmethod
    def of(cls, evidence: Evidence, encode: Encode, seed: int) -> Exemplars | None:
        """None for a latent without active windows."""
        sampled = distinct(evidence.sampled)
        everything = distinct([*evidence.top, *evidence.sampled])
        if not everything:
            return None
        scale = Scale.of([e.maximum for e in everything], [e.maximum for e in sampled])
        held = _held_back(sampled, evidence.latent, seed)
        hidden = {span(e) for e in held}
        shown = replace(
            evidence,
            top=[e for e in evidence.top if span(e) not in hidden],
            sampled=[e for e in evidence.sampled if span(e) not in hidden],
        )
        kept = [e for e in everything if span(e) not in hidden]
        kept.sort(key=lambda e: -e.maximum)
        vocabulary = evidence.background.vocabulary
        join = Joiner.fitting(encode, vocabulary, [e.token_ids for e in everything[:8]])
        return cls(evidence.latent, shown, kept, held, scale, join)

    def excerpt(self, example: Example) -> Excerpt:
        """The window with its activations as levels."""
        tokens = tuple(example.tokens)
        left = self.join(example.left_context[-LEFT_SHOWN:])
        return Excerpt(self.join(tokens), tokens, self.scale.levels(example.activations), left)

    def clusters(self) -> tuple[Cluster, ...]:
        """Windows that share the token at the peak or one just before it, largest group first."""
        groups = _groups(self.distinct)
        return tuple(
            Cluster(
                id=f"c{number}",
                peak=Counter(map(peak_token, group)).most_common(1)[0][0],
                share=len(group) / len(self.distinct),
                excerpts=tuple(map(self.excerpt, _spread(group, EXCERPTS))),
            )
            for number, group in enumerate(groups, 1)
        )

    def inactive(self) -> tuple[Excerpt, ...]:
        """Windows with a peak token in which the latent is inactive, else random inactive ones."""
        if self.shown.token_matched:
            return tuple(map(self.excerpt, self.shown.token_matched[:MOST_INACTIVE]))
        background = self.shown.background
        rows = np.flatnonzero(self.shown.background_maxima <= 0)[:MOST_INACTIVE]
        windows = [
            tuple(background.vocabulary[i] for i in background.token_ids[row].tolist())
            for row in rows.tolist()
        ]
        return tuple(Excerpt(self.join(w), w, (0,) * len(w)) for w in windows)

    def topic(self) -> frozenset[str]:
        """Peak tokens, and the words near peaks that few texts hold; stripped, in lower case."""
        peaks = {core(peak_token(e)) for e in self.distinct}
        near = {core(token) for e in self.distinct for token in _around(e)}
        background = self.shown.background
        width = len(background.vocabulary)
        rows = [np.unique(row[row >= 0]) for row in background.token_ids]
        counts = np.bincount(np.concatenate([np.zeros(0, np.int64), *rows]), minlength=width)
        often = np.flatnonzero(counts > COMMON * max(1, len(rows)))
        common = {core(background.vocabulary[i]) for i in often.tolist()}
        words = {word for word in near if any(c.isalnum() for c in word)} - common
        return frozenset((peaks | words) - {""})


def peak(example: Example) -> int:
    """Where the activation is largest."""
    return int(example.activations.argmax())


def peak_token(example: Example) -> str:
    """The token there."""
    return example.vocabulary[int(example.token_ids[peak(example)])]


def _around(example: Example) -> list[str]:
    at = peak(example)
    return example.tokens[max(0, at - NEAR) : at + NEAR + 1]


def _held_back(sampled: Sequence[Example], latent: LatentId, seed: int) -> list[Example]:
    count = min(int(HELD_BACK * len(sampled)), MOST_HELD_BACK)
    order = derived_generator(seed, latent, "held back").permutation(len(sampled))
    return [sampled[i] for i in sorted(order[:count].tolist())]


def _groups(examples: Sequence[Example]) -> list[list[Example]]:
    """Greedy: each group is of the feature that most of the windows left have in common."""
    features = [_features(e) for e in examples]
    left = list(range(len(examples)))
    groups: list[list[Example]] = []
    least = max(2, len(examples) // 50)
    while left and len(groups) < MOST_CLUSTERS:
        weights: dict[tuple[int, str], float] = {}
        for i in left:
            for place, weight in _FEATURES:
                feature = (place, features[i][place])
                weights[feature] = weights.get(feature, 0.0) + weight
        place, token = max(weights, key=weights.__getitem__)
        members = [i for i in left if features[i][place] == token]
        if len(members) < least:
            break
        groups.append([examples[i] for i in members])
        left = [i for i in left if features[i][place] != token]
    return groups


def _features(example: Example) -> dict[int, str]:
    tokens = example.left_context + example.tokens
    at = len(tokens) - len(example.token_ids) + peak(example)
    return {place: core(tokens[at + place]) if at + place >= 0 else "" for place, _ in _FEATURES}


def _spread(group: Sequence[Example], count: int) -> list[Example]:
    """The first and last and what lies evenly between them."""
    places = np.unique(np.linspace(0, len(group) - 1, min(count, len(group))).round().astype(int))
    return [group[i] for i in places.tolist()]

"""The labelled texts on which patterns are compared."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from autointerp.explainers.agent.roles import MeasuredProbe
from autointerp.latents import Evidence, Example
from autointerp.patterns import (
    Atom,
    Clause,
    Condition,
    Lexicon,
    Mask,
    Pattern,
    Windows,
)
from autointerp.patterns.reading import Ids, Reader, background_row, nothing_before, padded, whole

RANDOM_ROWS = 200
# What windows and probes weigh on each side; a side whose part is missing shares its weight.
_WEIGHTS = {"window": 0.6, "probe": 0.4, "random": 0.35, "token": 0.25, "missed": 0.4}


class _Remembered(Windows):
    """Windows that keep what they found, for many patterns that differ little."""

    def __init__(self, lexicon: Lexicon, token_ids: Ids, left_ids: Ids) -> None:
        super().__init__(lexicon, token_ids, left_ids)
        self._atoms: dict[Atom, Mask] = {}
        self._conditions: dict[Condition, Mask] = {}

    def atoms(self, atoms: Sequence[Atom]) -> Mask:
        for atom in atoms:
            if atom not in self._atoms:
                self._atoms[atom] = super().atoms([atom])
        return np.asarray(np.logical_or.reduce([self._atoms[atom] for atom in atoms]))

    def condition(self, condition: Condition) -> Mask:
        if condition not in self._conditions:
            self._conditions[condition] = super().condition(condition)
        return self._conditions[condition]


class Trials:
    """Texts known to be on or off, weighted: EXPLAIN windows and every probe so far.

    A window counts as hit only inside itself, not in what stands before it.
    """

    def __init__(
        self, reader: Reader, evidence: Evidence, active: Sequence[Example],
        probes: Sequence[MeasuredProbe],
    ) -> None:  # fmt: skip
        background = evidence.background
        quiet = np.flatnonzero(evidence.background_maxima <= 0)[:RANDOM_ROWS]
        matched = evidence.token_matched
        clear = [probe for probe in probes if probe.reading != "graded"]
        rows = [whole(e) for e in (*active, *matched)]
        rows += [background_row(background, row) for row in quiet.tolist()]
        rows += [reader.ids(probe.excerpt.text) for probe in clear]
        shown = [len(e.token_ids) for e in (*active, *matched)]
        shown += [background.token_ids.shape[1]] * len(quiet)
        shown += [len(row) for row in rows[len(shown) :]]
        parts = ["window"] * len(active) + ["token"] * len(matched) + ["random"] * len(quiet)
        parts += ["probe" if probe.reading == "on" else "missed" for probe in clear]
        ids = padded(rows)
        self.windows = _Remembered(reader.lexicon, ids, nothing_before(ids))
        self.counted: Mask = np.arange(ids.shape[1]) >= ids.shape[1] - np.array(shown)[:, None]
        self.weights = _weights(parts)
        self.positive: Mask = self.weights > 0
        self._hits: dict[Clause, Mask] = {}

    def without(self, pattern: Pattern) -> Trials:
        """The same texts, of which those on that the pattern explains count no more."""
        rest = copy(self)
        rest.weights = np.where(self.positive & self.hits(pattern), 0.0, self.weights)
        left = rest.weights[self.positive].sum()
        rest.weights[self.positive] *= 0.5 / left if left else 0.0
        return rest

    def hits(self, pattern: Pattern) -> Mask:
        """[n] which texts the pattern matches in."""
        found = np.zeros(len(self.weights), bool)
        for clause in pattern.clauses:
            if clause not in self._hits:
                self._hits[clause] = np.asarray(self.places(clause).any(axis=1))
            found |= self._hits[clause]
        return found

    def places(self, clause: Clause) -> Mask:
        """[n, longest] where the clause matches in what counts."""
        return np.asarray(self.counted & self.windows.clause(clause))

    def value(self, pattern: Pattern) -> float:
        """Weighted balanced accuracy."""
        return 0.5 + float(self.weights @ self.hits(pattern))


def _weights(parts: Sequence[str]) -> NDArray[np.float64]:
    """Signed, so that each side sums to one half."""
    names = np.array(parts)
    weights = np.zeros(len(parts))
    for side, sign in ((("window", "probe"), 1.0), (("random", "token", "missed"), -1.0)):
        there = [part for part in side if part in parts]
        total = sum(_WEIGHTS[part] for part in there)
        for part in there:
            chosen = names == part
            weights[chosen] = sign * 0.5 * _WEIGHTS[part] / total / np.count_nonzero(chosen)
    return weights

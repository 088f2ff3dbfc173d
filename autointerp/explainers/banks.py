"""Windows on which many clauses are tried: where each atom and condition holds, as bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autointerp.patterns import Atom, Condition, Mask, Token, Windows
from autointerp.patterns.kept import Kept

BITS_BYTES = 2**27  # kept of a bank: one of the background serves a run's latents
Bits = NDArray[np.uint64]


class Bank:
    """Windows whose masks are kept as bits: one window is a few 64-bit words."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self._bits: Kept[Atom | Condition, Bits] = Kept(BITS_BYTES)
        self._order = np.argsort(windows.ids, axis=None, kind="stable")
        self._sorted = windows.ids.ravel()[self._order]

    def bits(self, feature: Atom | Condition) -> Bits:
        """[n, words] the positions of an atom or of a condition, packed."""
        return self._bits.get(feature, lambda: self._packed(feature))

    def _packed(self, feature: Atom | Condition) -> Bits:
        if not isinstance(feature, Condition):
            mask = self._found(feature)
        elif feature.atoms:
            mask = self.windows.standing(feature.kind, self._found(feature.atoms[0]))
        else:
            mask = self.windows.condition(feature)
        return packed(mask[:, self.windows.left :])

    def _found(self, atom: Atom) -> Mask:
        """[n, left + window] where the atom is: a token's places are looked up, not sought."""
        if not isinstance(atom, Token):
            return self.windows.atoms([atom])
        mask = np.zeros(self.windows.ids.shape, dtype=bool)
        for token_id in self.windows.lexicon.ids(atom.text):
            low, high = np.searchsorted(self._sorted, [token_id, token_id + 1])
            mask.ravel()[self._order[low:high]] = True
        return mask

    def stack(self, features: Sequence[Atom | Condition]) -> Bits:
        """[features, n, words]"""
        return np.stack([self.bits(feature) for feature in features])


def packed(mask: Mask) -> Bits:
    """[n, window] as bits in 64-bit words, padded with zeros."""
    padded = np.pad(mask, ((0, 0), (0, -mask.shape[1] % 64)))
    return np.packbits(padded, axis=1).view(np.uint64)


@dataclass(frozen=True)
class Part:
    """Some windows of a bank."""

    bank: Bank
    rows: NDArray[np.intp]

    def bits(self, feature: Atom | Condition) -> Bits:
        """[rows, words] as the bank's."""
        return self.bank.bits(feature)[self.rows]

    def stack(self, features: Sequence[Atom | Condition]) -> Bits:
        """[features, rows, words]"""
        return np.stack([self.bits(feature) for feature in features])

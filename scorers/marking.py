"""Windows with marked tokens for fuzzing, of which nothing but the tokens tells the truth.

Active windows are put in pairs of which neither is active where the other is marked. One of the two
shows its own marks, and the other carries the same to inactive tokens: so marks of every number and
place are as often true as false, in windows of the same kind. Pairs, and who carries, are chosen so
that the marks fall on tokens of like length, and else by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..judges import Marks
from ..latents import Example, ExampleBlock, Item, LabelledSet
from ..latents.windows import once_a_vocabulary
from ..statistics import derived_generator

MARKED = 0.3  # share of the window's maximum from which a token is marked
FEWEST = 10  # negatives of a source; with fewer it is unavailable
_BESIDE = 0.25  # the weight of tokens beside marked ones
_NEVER = 1e6  # the difference of a pair that cannot be, far above all others

Masks = NDArray[np.bool_]  # [n, window]
Numbers = NDArray[np.float64]


class Marked(NamedTuple):
    """Items to be judged by their marked tokens; ``marks`` has one mask an item.

    ``shortage`` is None, or why there is nothing to judge; ``unavailable`` names the negative
    sources that had too few windows, with the reason.
    """

    items: list[Item]
    marks: list[Marks]
    unavailable: dict[str, str]
    shortage: str | None = None


def mark(test: LabelledSet, seed: int) -> Marked:
    """The windows of a set, none twice, with marks.

    ``activating`` are active windows with their own marks, ``donor`` as many other active windows
    with those same marks at inactive tokens, ``random`` windows without any activity that carry
    them too. Fewer than ten ``donor`` windows are a shortage.
    """
    if test.shortage is not None:
        return Marked([], [], {}, test.shortage)
    positives = [item for item in test.items if item.source == "activating"]
    silent = [item for item in test.items if item.source == "random"]
    rng = derived_generator(seed, test.latent, "fuzzing marks")
    pairs = _pairs(positives, rng)
    if len(pairs) < FEWEST:
        reason = (
            f"{len(pairs)} pairs of {len(positives)} active windows can share marks,"
            f" {FEWEST} are needed"
        )
        return Marked([], [], {}, reason)
    own = [positives[i] for i, _ in pairs]
    marks = list(own_marks([item.example for item in own]))
    items = own + [Item(positives[j].example, False, "donor") for _, j in pairs]
    unavailable = {}
    lent: list[Marks] = []
    if len(silent) < FEWEST:
        unavailable["random"] = test.unavailable.get("random", f"{len(silent)} windows")
    else:
        at, carriers = _lend(np.stack(marks), own, silent)
        items += [silent[j] for j in carriers]
        lent = [marks[i] for i in at]
    return Marked(items, [*marks, *marks, *lent], unavailable)


def own_marks(examples: Sequence[Example]) -> Masks:
    """Where the windows' owner is active at 0.3 of the window's maximum or more."""
    return _marked(_activations(examples))


def _activations(examples: Sequence[Example]) -> NDArray[np.float32]:
    return np.stack([example.activations for example in examples])


def _marked(activations: NDArray[np.float32]) -> Masks:
    found: Masks = activations >= MARKED * activations.max(axis=1, keepdims=True)
    return found & (activations > 0)


def alone(example: Example, marks: Marks) -> Example:
    """The marked tokens of a window without the rest of it, and without what stands before."""
    block, row = example
    at = slice(row, row + 1)
    only = ExampleBlock(
        block.owner,
        block.documents[at],
        block.starts[at],
        block.token_ids[at, marks],
        block.activations[at, marks],
        block.left_ids[at, :0],
        block.vocabulary,
    )
    return Example(only, 0)


def _pairs(positives: Sequence[Item], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Which window shows its own marks and which carries them, no window twice."""
    one, other = np.array_split(rng.permutation(len(positives)), 2)
    if not len(other):
        return []
    examples = [item.example for item in positives]
    activations = _activations(examples)
    marks, active = _marked(activations), activations > 0
    touches = marks.astype(np.int32) @ active.T.astype(np.int32) > 0  # [marks of, in window]
    never = (touches | touches.T)[np.ix_(one, other)]
    lengths = _lengths(examples)
    there = np.where(never, _NEVER, _unlike(marks[one], lengths[one], lengths[other]))
    back = np.where(never, _NEVER, _unlike(marks[other], lengths[other], lengths[one]).T)
    rows, columns = _matched(np.minimum(there, back))
    gain = (back - there)[rows, columns]
    first = np.where(gain == 0, rng.random(len(rows)) < 0.5, gain > 0)
    shows = np.where(first, one[rows], other[columns])
    carries = np.where(first, other[columns], one[rows])
    return list(zip(shows.tolist(), carries.tolist(), strict=True))


def _lend(marks: Masks, own: Sequence[Item], silent: Sequence[Item]) -> tuple[list[int], list[int]]:
    """Which marks go to which windows without activity."""
    at_home = _lengths([item.example for item in own])
    away = _lengths([item.example for item in silent])
    rows, columns = _matched(_unlike(marks, at_home, away))
    return rows.tolist(), columns.tolist()


def _unlike(marks: Masks, at_home: Numbers, away: Numbers) -> Numbers:
    """[m, n] how much the tokens' lengths at the marks, and beside them, differ between the marks'
    own windows [m, window] and others [n, window]."""
    beside = np.zeros_like(marks)
    beside[:, 1:] |= marks[:, :-1]
    beside[:, :-1] |= marks[:, 1:]
    weights = np.where(marks, 1.0, _BESIDE * beside)
    differences = np.abs(at_home[:, None] - away[None])  # [m, n, window]
    unlike: Numbers = np.einsum("mnw,mw->mn", differences, weights) / marks.sum(1)[:, None]
    return unlike


def _lengths(examples: Sequence[Example]) -> Numbers:
    """[n, window] the logarithm of how many characters each token has."""
    logarithms = _token_lengths(examples[0].vocabulary)
    return logarithms[np.stack([example.token_ids for example in examples])]


@once_a_vocabulary
def _token_lengths(vocabulary: Sequence[str]) -> Numbers:
    logarithms: Numbers = np.log(np.maximum(list(map(len, vocabulary)), 1))
    return logarithms


def _matched(unlike: Numbers) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows and columns of the pairs that differ least, of as many as there can be."""
    from scipy.optimize import linear_sum_assignment  # a third of a second to import

    rows, columns = linear_sum_assignment(unlike)
    possible = unlike[rows, columns] < _NEVER
    return rows[possible], columns[possible]

"""Sequential scoring: how often its limits are wrong, what it saves, whether it decides alike.

Usage: python bench/sequential.py [LATENTS]. Latents are simulated, 10,000 in every figure: each
answer is right with the latent's own recall (of its decile) or specificity. Blocks hold one
positive of each of ten deciles and as many negatives; one looks after every block.

- ``ever misses``: the share of latents whose 95 % limits leave out the truth at any look, the
  worst over a grid of recalls and specificities. At most 5 % is promised.
- ``saved``: the share of the items of the full set that are not asked, over latents spread as the
  demo's are, when one stops at half-width .15 or clear of .7; and the same at half-width .1, where
  up to 200 items may be asked instead of 100.
- ``decides alike``: the share of those latents whose estimate when one stops (half-width .15) is on
  the same side of .7 as that of the full set.
"""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from autointerp.statistics import betting_interval, derived_generator

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]  # [looks, latents, 3] pairs worth 0, ½ and 1, up to each look

LATENTS = 10_000
DECILES = 10
FULL = 5  # blocks of the full set: 50 + 50 items
MORE = 10  # blocks where more may be asked: 100 + 100 items
GRID = (0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 0.98, 0.99, 0.995, 1.0)
SLOPE = 0.35  # how far the recall of the strongest decile is above the mean, as in the demo
BAR = 0.7
# Beta distributions that recall and specificity have in the demo, where patterns explain.
DEMO_RECALL, DEMO_SPECIFICITY = (5.0, 2.9), (7.5, 0.65)
MOST_MISSED, LEAST_SAVED, LEAST_ALIKE = 0.05, 0.3, 0.95


def paired(recall: Floats, specificity: Floats, looks: int, rng: np.random.Generator) -> Counts:
    """Pairs of ``looks`` blocks. recall [latents, 10] by decile, specificity [latents]."""
    blocks = np.zeros((looks, len(recall), 3), np.int64)
    for look in range(looks):
        right = (rng.random(recall.shape) < recall).astype(np.int64)
        right += rng.random(recall.shape) < specificity[:, None]
        blocks[look] = np.stack([(right == worth).sum(1) for worth in range(3)], axis=1)
    return np.cumsum(blocks, axis=0)


@cache
def limits_of(pairs: int) -> Floats:
    """[pairs worth 0, pairs worth 1, 2] the limits after that many pairs."""
    table = np.full((pairs + 1, pairs + 1, 2), np.nan)
    for wrong in range(pairs + 1):
        for right in range(pairs + 1 - wrong):
            found = betting_interval([wrong, pairs - wrong - right, right])
            table[wrong, right] = found.low, found.high
    return table


def limits(counts: Counts) -> Floats:
    """[looks, latents, 2] the limits at each look, intersected over the looks so far."""
    found = np.stack([limits_of(int(c[0].sum()))[c[:, 0], c[:, 2]] for c in counts])
    low = np.maximum.accumulate(found[..., 0], axis=0)
    high = np.minimum.accumulate(found[..., 1], axis=0)
    return np.stack([low, high], axis=-1)


def sloped(recall: Floats) -> Floats:
    """[latents, 10] recalls by decile with the given mean, weak windows being found less often."""
    room = np.minimum(SLOPE, np.minimum(recall, 1 - recall))
    return recall[:, None] + room[:, None] * np.linspace(-1, 1, DECILES)


def ever_missed(recall: float, specificity: float, latents: int, seed: int = 0) -> float:
    """The share of latents whose limits leave out the truth at any look."""
    rng = derived_generator(seed, "missed", recall, specificity)
    recalls = sloped(np.full(latents, recall))
    counts = paired(recalls, np.full(latents, specificity), FULL, rng)
    low, high = np.moveaxis(limits(counts), -1, 0)
    truth = (recall + specificity) / 2
    return float(((low > truth) | (high < truth)).any(axis=0).mean())


def demo_like(latents: int, looks: int, seed: int = 0) -> Counts:
    rng = derived_generator(seed, "demo")
    recall = sloped(rng.beta(*DEMO_RECALL, size=latents))
    return paired(recall, rng.beta(*DEMO_SPECIFICITY, size=latents), looks, rng)


def stops(found: Floats, half_width: float) -> NDArray[np.int64]:
    """[latents] the look at which one stops, from 0; the last if never."""
    low, high = np.moveaxis(found, -1, 0)
    enough = (high - low <= 2 * half_width) | (low > BAR) | (high < BAR)
    enough[-1] = True
    return np.asarray(enough.argmax(axis=0))


def saved(latents: int, half_width: float, looks: int, seed: int = 0) -> float:
    """The share of the full set's items not asked; below 0 if more were."""
    stopped = stops(limits(demo_like(latents, looks, seed)), half_width)
    return float(1 - (stopped + 1).mean() / FULL)


def alike(latents: int, half_width: float, seed: int = 0) -> float:
    """The share of latents whose estimate is on the same side of .7 as that of the full set."""
    counts = demo_like(latents, FULL, seed)
    stopped = stops(limits(counts), half_width)
    above = counts @ np.array([0, 1, 2]) > 2 * BAR * counts.sum(axis=-1) + 1e-9
    return float((above[stopped, np.arange(latents)] == above[-1]).mean())


def report(figure: str, value: float, passed: bool | None, **fields: object) -> None:
    line = {"bench": "sequential", "figure": figure, "value": round(value, 4), "unit": "ratio"}
    print(json.dumps(line | fields | ({} if passed is None else {"passed": passed})), flush=True)


def main() -> None:
    latents = int(sys.argv[1]) if len(sys.argv) > 1 else LATENTS
    began = time.perf_counter()
    missed = {pair: ever_missed(*pair, latents) for pair in product(GRID, GRID)}
    (recall, specificity), worst = max(missed.items(), key=lambda entry: entry[1])
    where = {"recall": recall, "specificity": specificity}
    report("ever misses, at worst", worst, worst <= MOST_MISSED, most=MOST_MISSED, **where)
    less = saved(latents, 0.15, FULL)
    report("saved at half-width .15", less, less >= LEAST_SAVED, least=LEAST_SAVED)
    report("saved at half-width .1, of up to 200", saved(latents, 0.1, MORE), None)
    same = alike(latents, 0.15)
    report("decides alike", same, same >= LEAST_ALIKE, least=LEAST_ALIKE)
    seconds = {"bench": "sequential", "figure": "time", "unit": "s"}
    print(json.dumps(seconds | {"value": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    main()

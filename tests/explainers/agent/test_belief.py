"""Verdicts: the published counts and operating characteristics, and what must not matter."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from autointerp.explainers.agent.belief import (
    Belief,
    Counted,
    Rate,
    outcome,
)

LOOKS = (6, 10, 14, 18)  # probes a side after which one looks
PROBES = st.lists(
    st.builds(
        Counted,
        side=st.sampled_from(["on", "off"]),
        family=st.sampled_from([f"f{i}" for i in range(8)]),
        value=st.sampled_from([0.0, 0.5, 1.0]),
        pair=st.booleans(),
    ),
    max_size=30,
)


def _belief(hits: int, on: int, rejections: int, off: int, pairs: int = 6) -> Belief:
    return Belief(Rate(hits, on, on), Rate(rejections, off, off), pairs)


@pytest.mark.parametrize(
    ("hits", "n"), [(6, 6), (7, 8), (8, 9), (9, 10), (10, 12), (11, 14), (14, 18)]
)
def test_least_counts_that_confirm(hits: int, n: int) -> None:
    assert _belief(hits, n, n, n).verdict == "confirmed"
    assert _belief(hits - 1, n, n, n).verdict != "confirmed"
    assert _belief(n, n, hits, n).verdict == "confirmed"
    assert _belief(n, n, hits - 1, n).verdict != "confirmed"


@pytest.mark.parametrize(("hits", "n"), [(2, 6), (4, 8), (5, 10), (7, 14)])
def test_most_counts_that_are_weak(hits: int, n: int) -> None:
    assert _belief(n, n, hits, n).verdict == "weak"
    assert _belief(n, n, hits + 1, n).verdict == "open"
    assert _belief(hits, n, n, n).verdict in ("weak", "refuted")


def test_refuted_is_about_hits_alone() -> None:
    assert _belief(0, 6, 6, 6).verdict == "refuted"
    assert _belief(6, 6, 0, 6).verdict == "weak"


def test_variety_is_needed() -> None:
    assert _belief(6, 6, 6, 6, pairs=2).verdict == "open"
    five = [Counted("on", str(i), 1.0) for i in range(5)]
    six = [Counted("off", str(i), 1.0, pair=True) for i in range(6)]
    assert Belief.of([*five, *six]).verdict == "open"
    assert Belief.of([*five, Counted("on", "5", 1.0), *six]).verdict == "confirmed"
    few = [Counted("on", str(i % 3), 1.0) for i in range(9)]
    assert Belief.of([*few, *six]).verdict == "open"


@dataclass(frozen=True)
class Characteristics:
    """How testing ends for a hypothesis whose true rates are known."""

    confirmed: float  # probability
    rejected: float  # probability of ending weak or refuted
    probes: float  # expected number, both sides together


def operating_characteristics(hit_rate: float, rejection_rate: float) -> Characteristics:
    """Exact, by dynamic programming over both counts; one probe a family, looks at ``LOOKS``."""
    states: dict[tuple[int, int], float] = {(0, 0): 1.0}
    confirmed = rejected = probes = 0.0
    for before, n in pairwise((0, *LOOKS)):
        probes += 2 * (n - before) * sum(states.values())
        states = _advanced(states, n - before, hit_rate, rejection_rate)
        verdicts = {state: _belief(state[0], n, state[1], n).verdict for state in states}
        confirmed += sum(states[s] for s, verdict in verdicts.items() if verdict == "confirmed")
        rejected += sum(states[s] for s, v in verdicts.items() if v in ("weak", "refuted"))
        states = {s: mass for s, mass in states.items() if verdicts[s] == "open"}
    return Characteristics(confirmed, rejected, probes)


def _advanced(
    states: dict[tuple[int, int], float], more: int, hit_rate: float, rejection_rate: float
) -> dict[tuple[int, int], float]:
    hits = [float(binom.pmf(k, more, hit_rate)) for k in range(more + 1)]
    rejections = [float(binom.pmf(k, more, rejection_rate)) for k in range(more + 1)]
    after: dict[tuple[int, int], float] = {}
    for (h, r), mass in states.items():
        for i, p in enumerate(hits):
            for j, q in enumerate(rejections):
                after[h + i, r + j] = after.get((h + i, r + j), 0.0) + mass * p * q
    return after


@pytest.mark.parametrize(
    ("rate", "confirmed", "probes"),
    [(0.5, 0.001, 17), (0.7, 0.17, 28), (0.8, 0.59, None), (0.9, 0.96, 22), (0.95, 0.998, 17)],
)
def test_operating_characteristics(rate: float, confirmed: float, probes: int | None) -> None:
    exact = operating_characteristics(rate, rate)
    assert exact.confirmed == pytest.approx(confirmed, abs=0.0051 if confirmed < 0.99 else 0.0005)
    assert probes is None or abs(exact.probes - probes) < 0.6


def test_operating_characteristics_by_simulation() -> None:
    rng = random.Random(0)
    ends, probes, n = {"confirmed": 0, "weak": 0, "refuted": 0, "open": 0}, 0, 4000
    for _ in range(n):
        hits = rejections = at = 0
        for look in LOOKS:
            hits += sum(rng.random() < 0.85 for _ in range(look - at))
            rejections += sum(rng.random() < 0.75 for _ in range(look - at))
            at = look
            verdict = _belief(hits, at, rejections, at).verdict
            if verdict != "open":
                break
        ends[verdict] += 1
        probes += 2 * at
    exact = operating_characteristics(0.85, 0.75)
    assert ends["confirmed"] / n == pytest.approx(exact.confirmed, abs=0.03)
    assert (ends["weak"] + ends["refuted"]) / n == pytest.approx(exact.rejected, abs=0.03)
    assert probes / n == pytest.approx(exact.probes, abs=0.5)


def test_posteriors_are_those_of_scipy() -> None:
    assert Rate(4.5, 7, 9).exceeds(0.6) == pytest.approx(beta.sf(0.6, 5.5, 3.5))
    assert Rate(4.5, 7, 9).mean == pytest.approx(5.5 / 9)


def test_graded_is_half_a_hit_and_no_rejection() -> None:
    assert [outcome("on", r) for r in ("on", "graded", "off")] == [1.0, 0.5, 0.0]
    assert [outcome("off", r) for r in ("on", "graded", "off")] == [0.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="abstain"):
        outcome("abstain", "on")


@given(PROBES, st.randoms(use_true_random=False))
def test_order_does_not_matter(probes: list[Counted], rng: random.Random) -> None:
    shuffled = probes[:]
    rng.shuffle(shuffled)
    assert Belief.of(shuffled) == Belief.of(probes)
    assert Belief.of(shuffled).verdict == Belief.of(probes).verdict


@given(PROBES, st.integers(1, 5))
def test_more_of_the_same_family_is_no_more_evidence(probes: list[Counted], times: int) -> None:
    once, often = Belief.of(probes), Belief.of(probes * times)
    assert often.hits.families == once.hits.families
    assert often.hits.successes == pytest.approx(once.hits.successes)
    assert often.rejections.successes == pytest.approx(once.rejections.successes)


@given(PROBES)
def test_a_new_family_that_went_well_never_hurts(probes: list[Counted]) -> None:
    before = Belief.of(probes)
    after = Belief.of([*probes, Counted("on", "new", 1.0)])
    assert after.hits.exceeds(0.6) >= before.hits.exceeds(0.6)
    assert after.rejections == before.rejections


@given(PROBES)
def test_sides_are_kept_apart(probes: list[Counted]) -> None:
    on = [probe for probe in probes if probe.side == "on"]
    assert Belief.of(on).hits == Belief.of(probes).hits
    assert Belief.of(on).rejections == Rate()

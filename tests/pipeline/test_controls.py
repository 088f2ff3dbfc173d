"""Controls: derangements, their matching by density, and whose text goes where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp import patterns
from autointerp.latents import LatentId
from autointerp.pipeline import controls
from autointerp.pipeline.plan import indices
from autointerp.statistics import Interval


def shuffled(
    members: Sequence[LatentId],
    densities: Mapping[LatentId, float],
    wanted: Sequence[LatentId],
    seed: int,
    texts: Sequence[str] | None = None,
) -> list[controls.Control]:
    """The shuffled controls of ``wanted`` where ``members`` are explained, in these words."""
    words = dict(zip(members, texts or [f"about {i}" for i in members], strict=True))
    widths = {i.coder: 1 + max(j.index for j in densities if j.coder == i.coder) for i in densities}
    by_coder = {coder: np.zeros(width) for coder, width in widths.items()}
    for latent, density in densities.items():
        by_coder[latent.coder][latent.index] = density

    def read(asked: Sequence[LatentId]) -> dict[LatentId, str]:
        return {latent: words[latent] for latent in asked}

    return controls.shuffled(indices(members), by_coder, read, wanted, seed=seed)


def latents(first: int, second: int = 0) -> list[LatentId]:
    return [LatentId("a", i) for i in range(first)] + [LatentId("b", i) for i in range(second)]


@given(st.integers(2, 60), st.integers(2, 30), st.integers(0, 5))
def test_shuffled_is_a_derangement_within_the_hook_point(n: int, m: int, seed: int) -> None:
    members = latents(n, m)
    densities = {i: ((i.index * 37) % 61) / 100 for i in members}
    found = shuffled(members, densities, members, seed)
    assert [c.latent for c in found] == members
    assert all(c.donor and c.donor != c.latent for c in found)
    assert all(c.donor and c.donor.coder == c.latent.coder for c in found)
    assert all(c.text == f"about {c.donor}" for c in found)
    assert len({c.donor for c in found}) == len(members)


def test_shuffled_matches_density() -> None:
    members = latents(64)
    densities = {i: i.index / 64 for i in members}
    found = shuffled(members, densities, members, 0)
    assert all(c.donor and abs(c.donor.index - c.latent.index) < 16 for c in found)


def test_shuffled_is_seeded_and_reads_nothing_from_the_order() -> None:
    members = latents(20)
    densities = dict.fromkeys(members, 0.1)
    found = shuffled(members, densities, members, 3)
    assert shuffled(members[::-1], densities, members, 3) == found
    assert shuffled(members, densities, members, 4) != found
    chosen = shuffled(members, densities, members[5:7], 3)
    assert chosen == found[5:7]


def test_shuffled_avoids_giving_a_latent_its_own_words() -> None:
    members = latents(8)
    texts = ["same", "same", *(f"other {i}" for i in range(6))]
    for seed in range(20):
        densities = dict.fromkeys(members, 0.1)
        found = shuffled(members, densities, members, seed, texts)
        assert all(c.text != texts[c.latent.index] for c in found)


def test_a_lone_latent_and_unexplained_ones_have_no_shuffled_control() -> None:
    lone, *others = latents(1, 3)
    densities = dict.fromkeys([lone, *others], 0.1)
    found = shuffled([lone, *others[:2]], densities, [lone, *others], 0)
    assert [(c.latent, c.donor) for c in found] == [
        (others[0], others[1]),
        (others[1], others[0]),
    ]


def test_controlled_latents_are_a_stable_sample_of_the_explained() -> None:
    members = latents(100, 100)
    chosen = controls.controlled(members, seed=0)
    assert len(chosen) == 64
    assert chosen == sorted(set(chosen))
    assert chosen == controls.controlled(members[::-1], seed=0)
    assert chosen != controls.controlled(members, seed=1)
    fewer = controls.controlled(members, seed=0, limit=10)
    assert set(fewer) < set(chosen)
    assert controls.controlled(members[:5], seed=0) == members[:5]


def test_neighbour_takes_the_nearest_that_is_explained() -> None:
    members = latents(4)
    nearest = {members[0]: members[2:0:-1], members[1]: [members[1]], members[2]: [members[0]]}

    def read(asked: Sequence[LatentId]) -> dict[LatentId, str]:
        return {latent: f"about {latent}" for latent in asked}

    found = controls.neighbour(read, nearest.__getitem__, members[:3])
    assert [(c.latent, c.donor, c.text) for c in found] == [
        (members[0], members[2], "about a/2"),
        (members[2], members[0], "about a/0"),
    ]


def test_empty_texts() -> None:
    members = latents(2)
    assert [patterns.parse(c.text) for c in controls.empty(members)] == [patterns.NOTHING] * 2
    assert [c.text for c in controls.empty(members, "")] == ["", ""]


def test_token_lists_are_patterns_of_the_nine_commonest_tokens() -> None:
    first, second = latents(2)
    tokens = [f" word{i}" for i in range(12)]
    (found,) = controls.token_list({first: tokens, second: []}, [first, second])
    assert found.latent == first
    (clause,) = patterns.parse(found.text).clauses
    assert [any(a.accepts(t) for a in clause.match) for t in tokens] == [True] * 9 + [False] * 3


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=9, unique=True))
def test_token_lists_can_be_read_back_whatever_the_tokens(tokens: list[str]) -> None:
    (latent,) = latents(1)
    (found,) = controls.token_list({latent: tokens}, [latent])
    (clause,) = patterns.parse(found.text).clauses
    assert clause.match == tuple(patterns.Token(t) for t in tokens)


def test_a_control_is_scored_as_an_explanation_of_its_latent() -> None:
    first, second = latents(2)
    control = controls.Control("shuffled", first, "about a/1", second)
    assert control.explanation.id == "a/0:input:control.shuffled"
    assert control.explanation.reason == "the text of a/1"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(0.5, 0.46, 0.54), True),
        (Interval(0.5, 0.44, 0.54), False),
        (Interval(0.54, 0.5, 0.58), False),
    ],
)
def test_is_chance_asks_for_the_whole_interval(interval: Interval, expected: bool) -> None:
    assert controls.is_chance(interval) is expected

"""Prompts for steering, on the planted subject."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import steered_world
from planted_coders import Planted
from steered_world import SteeredWorld, where

from autointerp.examples.prefixes import LONGEST, PER_DOCUMENT, SHORTEST, Prefixes, parts
from autointerp.latents import SPLITS, Split


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> SteeredWorld:
    return steered_world.build(planted, tmp_path_factory.mktemp("store"))


def found_in(world: SteeredWorld, prompt: np.ndarray) -> list[tuple[int, int]]:
    """(document, last token) of every place at which the tokens of a prompt stand."""
    places = []
    for document in range(len(world.store.document_split)):
        tokens = world.store.tokens(document)
        if len(tokens) < len(prompt):
            continue
        windows = np.lib.stride_tricks.sliding_window_view(tokens, len(prompt))
        ends = np.flatnonzero((windows == prompt).all(axis=1)) + len(prompt) - 1
        places += [(document, int(end)) for end in ends]
    return places


@pytest.mark.parametrize("split", ["select", "test"])
def test_prompts_are_runs_of_one_row_of_the_splits_documents(
    world: SteeredWorld, split: Split
) -> None:
    (latent,) = world.latents(1)
    prompts = world.prefixes.of(where(latent), split, 40)
    assert (len(prompts.neutral), len(prompts.activating)) == (20, 20)
    documents = Counter[int]()
    for prompt in prompts.all:
        assert SHORTEST <= len(prompt) <= LONGEST
        ((document, last),) = found_in(world, prompt)
        assert world.store.document_split[document] == SPLITS.index(split)
        assert world.store.row_start(document, last) <= last - len(prompt) + 1
        documents[document] += 1
    assert max(documents.values()) <= PER_DOCUMENT
    assert len({prompt.tobytes() for prompt in prompts.all}) == len(prompts)


def test_they_end_where_the_latent_is_silent_or_first_strong(world: SteeredWorld) -> None:
    for latent in world.latents(12):
        prompts = world.prefixes.of(where(latent), "test", 32)
        for prompt in prompts.neutral:
            words = [world.store.vocabulary[i] for i in prompt]
            assert not latent.rule.fires(words, len(words) - 1)
        strong = max(latent.rule.strengths.values()) / 2
        for prompt in prompts.activating:
            word = world.store.vocabulary[prompt[-1]]
            assert latent.rule.strengths[word] >= 0.9 * strong


def test_the_same_is_drawn_again_whatever_was_drawn_before(world: SteeredWorld) -> None:
    one, two = (where(latent) for latent in world.latents(2))
    first = world.prefixes.of(one, "select", 20)
    fresh = Prefixes(world.store)
    fresh.of(two, "select", 20)
    again = fresh.of(one, "select", 20)
    assert [p.tobytes() for p in first.all] == [p.tobytes() for p in again.all]
    other = fresh.of(two, "select", 20)
    assert [p.tobytes() for p in first.all] != [p.tobytes() for p in other.all]


def test_rare_latents_get_more_neutral_prompts(world: SteeredWorld) -> None:
    (rare, *_) = world.planted.truth.family("rare")
    prompts = world.prefixes.of(where(rare), "select", 64)
    assert len(prompts) == 64
    assert len(prompts.activating) < 32
    assert len(world.prefixes.activating(where(rare), "select", 64)) < 32


def test_parts_keep_the_order_and_fit(world: SteeredWorld) -> None:
    prompts = [np.array([i], np.int32) for i in range(10)]
    assert [list(part) for part in parts(prompts, 2**20)] == [
        prompts[:4],
        prompts[4:8],
        prompts[8:],
    ]
    assert [len(part) for part in parts(prompts, 2**40)] == [1] * 10
    assert len(world.prefixes.rows(50)) == 50

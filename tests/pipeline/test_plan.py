"""What a stage has left to do, read a block at a time, is what there is to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.latents import Explanation, LatentId, Metric, Score, Status
from autointerp.pipeline import plan
from autointerp.pipeline.plan import (
    Done,
    Explained,
    Texts,
    at,
    blocks,
    indices,
    members_of,
    unexplained,
)
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored, explanation_row, is_scored

STATUSES: tuple[Status, ...] = ("explained", "no_explanation", "dead", "failed")
LATENTS = [LatentId(coder, index) for coder in ("b", "a") for index in range(600)]


def status_of(latent: LatentId) -> Status | None:
    """Every fifth latent has no explanation yet."""
    return None if latent.index % 5 == 4 else STATUSES[latent.index % 5]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    results = Results.open(tmp_path_factory.mktemp("plan") / "r.sqlite")
    explained = [Explanation(LATENTS[0], "x", "another")]
    for latent in LATENTS:
        status = status_of(latent)
        text = "" if status in ("dead", "failed") else f"about {latent}"
        if status is not None:
            explained.append(Explanation(latent, text, "mine", status=status))
    results.put_rows("explanations", map(explanation_row, explained))
    return results


@given(st.lists(st.sampled_from(LATENTS), unique=True), st.integers(1, 9))
def test_latents_are_the_same_as_numbers(latents: list[LatentId], size: int) -> None:
    found = indices(latents)
    assert list(members_of(found)) == sorted(latents)
    places = list(range(0, len(latents), 3))
    assert list(at(found, places)) == [sorted(latents)[place] for place in places]
    assert [i for block in blocks(latents, size) for i in block] == latents


@settings(max_examples=20)
@given(st.lists(st.sampled_from(LATENTS), unique=True, max_size=400))
def test_what_is_left_is_what_has_no_explanation(results: Results, latents: list[LatentId]) -> None:
    left = [i for i in latents if status_of(i) is None]
    whole = sorted(latents, key=lambda i: (i.coder != "b", i.index))
    assert sorted(unexplained(results, whole, "mine")) == sorted(left)


def test_explanations_are_read_in_order_and_only_those_with_a_text(results: Results) -> None:
    explained = Explained(results, LATENTS, "mine")
    expected = [i for i in LATENTS if status_of(i) in ("explained", "no_explanation")]
    found = list(explained.stream())
    assert [e.latent for e in found] == expected
    assert all(is_scored(e) and e.text == f"about {e.latent}" for e in found)
    assert len(explained) == len(expected) == len(list(Texts([explained])))
    assert sorted(explained) == sorted(expected)
    assert explained[expected[7]] == found[7]
    with pytest.raises(KeyError):
        explained[LatentId("a", 2)]  # dead


def test_reading_needs_few_queries(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    of = Results.of

    def counted(self: Results, latents: list[LatentId], explainer: str) -> object:
        asked.append(len(latents))
        return of(self, latents, explainer)

    monkeypatch.setattr(Results, "of", counted)
    list(Explained(results, LATENTS, "mine").stream())
    assert max(asked) <= plan.BLOCK
    assert len(asked) == -(-len(LATENTS) // plan.BLOCK)


def test_scores_that_are_there_need_not_be_made(tmp_path: Path) -> None:
    latent = LatentId("layers.0/odd:name", 3)
    score = Score(latent, f"{latent}:input:x", "detection", "llm", "m", 0.5, {"m": Metric(0.5)}, ())
    with Results.open(tmp_path / "r.sqlite") as results:
        done = Done(results)
        assert (score.explanation, "detection", "") not in done
        results.put_scores([Scored(score)])
        assert (score.explanation, "detection", "") in done
        assert (score.explanation, "detection", "empty") not in done
        assert (score.explanation, "fuzzing", "") not in done

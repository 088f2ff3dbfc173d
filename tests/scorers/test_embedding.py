"""Embedding scores: by hand, and of true explanations of natural text with a real model."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from embedding_model import minilm
from given_sets import with_test

from autointerp.latents import (
    Example,
    ExampleBlock,
    Explanation,
    Failure,
    Item,
    LabelledSet,
    LatentId,
    Number,
    Score,
    Source,
)
from autointerp.scorers.embedding import EmbeddingOptions, EmbeddingScorer
from autointerp.scorers.ranks import rank_metrics
from autointerp.statistics import auroc
from autointerp.subject.embedder import EmbeddingQueue, load_embedder

LATENT = LatentId("a", 1)
TOPICS = {  # a module, and what its documentation is about
    "asyncio.locks": "locks and waiting",
    "calendar": "weeks, months, days and calendars",
    "decimal": "decimal numbers, rounding and arithmetic",
    "ipaddress": "internet addresses and networks",
    "shutil": "copying and moving files and folders",
    "sqlite3": "databases, queries, cursors and transactions",
}


def items(texts: Sequence[str], source: Source) -> Iterator[Item]:
    """Windows of one token, which is the text."""
    n, positive = len(texts), source == "activating"
    block = ExampleBlock(
        owner=LATENT,
        documents=np.arange(n),
        starts=np.zeros(n, np.int64),
        token_ids=np.arange(n, dtype=np.int32)[:, None],
        activations=np.full((n, 1), np.nan, np.float32),
        left_ids=np.zeros((n, 0), np.int32),
        vocabulary=[*texts, " "],
    )
    for place, example in enumerate(block.examples()):
        yield Item(Example(*example), positive, source, place % 10 if positive else None)


def labelled(shortage: str | None = None, **texts: Sequence[str]) -> LabelledSet:
    found: dict[Any, Sequence[str]] = dict(texts)
    every = [item for source, of_source in found.items() for item in items(of_source, source)]
    return LabelledSet(LATENT, "test", every, {"semantic": "no embedder"}, shortage, dropped=2)


class Lengths:
    """The cosine of two texts is larger the nearer their lengths are."""

    async def vectors(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[math.cos(len(t) / 9), math.sin(len(t) / 9)] for t in texts], np.float32)


def score(test: LabelledSet, text: str = "xxx", embedder: Any = None) -> Score:
    scorer = EmbeddingScorer(embedder=embedder or Lengths())
    return asyncio.run(scorer.score(Explanation(LATENT, text, "by hand"), with_test(LATENT, test)))


def test_cosines_and_auroc_by_hand() -> None:
    test = labelled(activating=["aa", "aaa", "aaaaaaa"], random=["a", "aaaa", "aaaaaaaa"],
                    token=["aaa", "aaaaaaaaaaa"])  # fmt: skip
    found = score(test)
    cosines = [math.cos((len(t) - 3) / 9) for t in ("aa", "aaa", "aaaaaaa", "a", "aaaa")]
    assert [o.value for o in found.outcomes if isinstance(o, Number)][:5] == pytest.approx(cosines)
    assert (found.scorer, found.headline, found.chance) == ("embedding", "auroc", 0.5)
    assert found.details == {"unavailable": {"semantic": "no embedder"}, "dropped": 2}
    assert found.metrics["auroc"].value == pytest.approx(6.5 / 9)
    assert found.metrics["token"].value == found.metrics["hard"].value == pytest.approx(3.5 / 6)
    assert found.metrics["auroc"].n == 6
    low, high = found.metrics["auroc"].low, found.metrics["auroc"].high
    assert low is not None
    assert high is not None
    assert 0 < low < 6.5 / 9 < high < 1


def test_auroc_can_be_recomputed_from_the_outcomes() -> None:
    test = labelled(activating=["a" * i for i in range(3, 15)], random=["b" * i for i in range(20)])
    found = score(test)
    numbers = [o for o in found.outcomes if isinstance(o, Number)]
    assert [(o.source, o.decile) for o in numbers] == [(i.source, i.decile) for i in test.items]
    again = auroc([o.source == "activating" for o in numbers], [o.value for o in numbers])
    assert again == found.metrics["auroc"].value


def test_failures_rank_at_the_wrong_end() -> None:
    outcomes = [Number(0.9, "activating"), Number(0.8, "activating"), Failure("no", "activating"),
                Number(0.1, "random"), Failure("no", "random")]  # fmt: skip
    metrics = rank_metrics(outcomes)
    assert metrics["auroc"].value == metrics["worst_case"].value == pytest.approx(2 / 6)
    assert metrics["best_case"].value == 1
    assert metrics["best_case"].n == metrics["auroc"].n
    assert metrics["failures"].value == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_a_failure_and_ranks_nothing(value: float) -> None:
    class Broken(Lengths):
        async def vectors(self, texts: Sequence[str]) -> np.ndarray:
            found = await super().vectors(texts)
            found[[len(text) > 5 for text in texts]] = value
            return found

    found = score(labelled(activating=["a" * 9] * 10, random=["b"] * 10), embedder=Broken())
    assert [isinstance(o, Failure) for o in found.outcomes] == [True] * 10 + [False] * 10
    assert "the window's number is" in str(getattr(found.outcomes[0], "reason", ""))
    assert found.metrics["auroc"].value == 0
    assert found.metrics["failures"].value == 10


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (labelled("too rare", activating=["a"], random=["b"]), "too rare"),
        (labelled(random=["b"]), "no windows in which"),
        (labelled(activating=["a"], token=["b"]), "no random windows"),
    ],
)
def test_too_few_examples_cost_nothing(test: LabelledSet, reason: str) -> None:
    class Unasked:
        async def vectors(self, texts: Sequence[str]) -> np.ndarray:
            raise AssertionError

    found = score(test, embedder=Unasked())
    assert found.status == "too_few_examples"
    assert reason in str(found.reason)


def documentation(module: str) -> list[str]:
    """First paragraphs of what a module's classes and functions say of themselves."""
    found = []
    for thing in vars(importlib.import_module(module)).values():
        members = [*vars(thing).values()] if inspect.isclass(thing) else []
        for member in [thing, *members]:
            said = " ".join((inspect.getdoc(member) or "").split("\n\n")[0].split())
            if callable(member) and 30 < len(said) < 300:
                found.append(said)
    return list(dict.fromkeys(found))[:15]


def test_true_explanations_of_natural_text_score_above_shuffled_ones() -> None:
    texts = {module: documentation(module) for module in TOPICS}

    async def work() -> list[list[float]]:
        queue = EmbeddingQueue(load_embedder(minilm(), device="cpu"))
        scorer = EmbeddingScorer(EmbeddingOptions(), embedder=queue)
        tasks = [_score_all(scorer, texts, said) for said in TOPICS.values()]
        found = await asyncio.gather(*tasks)
        await queue.aclose()
        return list(found)

    areas = np.array(asyncio.run(work()))  # [explanation, topic]
    true = np.diag(areas)
    shuffled = areas[~np.eye(len(areas), dtype=bool)]
    assert true.mean() > 0.8
    assert true.min() > shuffled.mean()
    assert 0.3 < shuffled.mean() < 0.55
    assert (areas.argmax(axis=0) == np.arange(len(areas))).mean() > 0.8


async def _score_all(
    scorer: EmbeddingScorer, texts: dict[str, list[str]], said: str
) -> list[float]:
    found = []
    for module, own in texts.items():
        other = [t for name, theirs in texts.items() if name != module for t in theirs[:5]]
        test = labelled(activating=own, random=other)
        made = await scorer.score(Explanation(LATENT, said, "by hand"), with_test(LATENT, test))
        found.append(made.metrics["auroc"].value)
    return found


def test_the_scorer_needs_an_embedder_and_no_language_model() -> None:
    assert EmbeddingOptions().needs() == {"embedder"}
    assert not EmbeddingOptions().asks

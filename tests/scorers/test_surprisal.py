"""Surprisal scores: by hand, through an echoing endpoint, and with the demo's own model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given_sets import with_test
from golden import check_golden
from llm_asking import run
from llm_server import LLMServer
from llm_values import AGAIN, NEW
from planted import PlantedLatent, Truth, build_truth, write_document

from autointerp.judges.base_lm import BaseLMOptions
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
from autointerp.llm.templates import Templates
from autointerp.scorers.surprisal import SurprisalScorer
from autointerp.subject.base_lm import LocalLM
from autointerp.subject.loading import load_subject

LATENT = LatentId("a", 1)
WINDOW = 16


def item(words: Sequence[str], source: Source, decile: int | None = None) -> Item:
    """A window of these words."""
    one, ids = np.zeros(1, np.int64), np.arange(len(words), dtype=np.int32)
    nothing = np.full((1, len(words)), np.nan, np.float32)
    left = np.zeros((1, 0), np.int32)
    block = ExampleBlock(LATENT, one, one, ids[None], nothing, left, [*words, "end"])
    return Item(Example(block, 0), source == "activating", source, decile)


def labelled(items: Sequence[Item], shortage: str | None = None) -> LabelledSet:
    return LabelledSet(LATENT, "test", list(items), {}, shortage, dropped=0)


def score(lm: Any, test: LabelledSet, text: str = "cats") -> Score:
    scorer = SurprisalScorer(templates=Templates(), base_lm=lm)
    return asyncio.run(scorer.score(Explanation(LATENT, text, "by hand"), with_test(LATENT, test)))


class Table:
    """Texts are as likely as they are long, and one nat likelier for each word that was told."""

    def __init__(self, fails: str = "\0") -> None:
        self.fails = fails
        self.asked: list[tuple[str, str]] = []

    async def logprobs(self, continuations: Sequence[tuple[str, str]]) -> list[float | str]:
        self.asked += continuations
        return [
            "too long" if self.fails in text else sum(w in before for w in text.split()) - len(text)
            for before, text in continuations
        ]


TEST = labelled(
    [
        item(["zz", "cats", "ran"], "activating", 0),
        item(["big", "cats", "eat", "cats"], "activating"),
        item(["zz", "dog", "ran"], "random"),
        item(["two", "qq", "cats"], "random"),
    ]
)


def test_what_the_explanation_gains_is_counted_and_ranked() -> None:
    lm = Table()
    found = score(lm, TEST)
    assert [o.value for o in found.outcomes if isinstance(o, Number)] == pytest.approx([1, 2, 0, 1])
    assert [o.decile for o in found.outcomes] == [0, None, None, None]
    assert (found.scorer, found.headline, found.chance) == ("surprisal", "auroc", 0.5)
    assert found.metrics["auroc"].value == pytest.approx((1.5 + 2) / 4)
    prefixes = dict.fromkeys(before for before, _ in lm.asked)
    assert len(prefixes) == 2


def test_what_is_not_measured_is_a_failure() -> None:
    found = score(Table(fails="big"), TEST)
    assert found.outcomes[1] == Failure("too long", "activating")
    assert found.metrics["auroc"].value == pytest.approx(1.5 / 4)
    assert found.metrics["worst_case"].value == pytest.approx(1.5 / 4)
    assert found.metrics["best_case"].value == pytest.approx(3.5 / 4)
    assert found.status == "scored"
    nothing = score(Table(fails=" "), TEST)
    assert nothing.status == "failed"
    assert nothing.reason == "no window was measured: too long"


def test_too_few_examples_cost_nothing() -> None:
    lm = Table()
    assert score(lm, labelled(TEST.items, "too rare")).status == "too_few_examples"
    assert score(lm, labelled(TEST.items[:2])).status == "too_few_examples"
    assert not lm.asked


def planted_set(truth: Truth, latent: PlantedLatent, count: int = 12) -> LabelledSet:
    """Windows of planted text in which the latent's rule holds or does not."""
    import random

    items: list[Item] = []
    wanted: dict[Source, int] = {"activating": count, "random": count}
    rng = random.Random(f"windows of {latent.index}")
    while any(wanted.values()):
        words = write_document(rng).split()
        for start in range(0, len(words) - WINDOW, WINDOW):
            window = words[start : start + WINDOW]
            source: Source = "activating" if any(truth.fires(latent.index, window)) else "random"
            if wanted[source]:
                wanted[source] -= 1
                items.append(item(window, source))
    return labelled(items)


def words_of(latent: PlantedLatent) -> str:
    return " ".join(latent.rule.strengths)


def test_an_endpoint_that_expects_words_to_return_tells_true_from_other_explanations(
    tmp_path: Path,
) -> None:
    truth = build_truth()
    latents = truth.family("token_set")

    async def work(llms: Any) -> list[list[Score]]:
        client = llms.clients["judge"]
        scorer = SurprisalScorer(BaseLMOptions(llm="judge"), templates=Templates(), client=client)
        return [
            await asyncio.gather(*(
                scorer.score(Explanation(LATENT, said, "by hand"), with_test(LATENT, test))
                for said in map(words_of, (latent, latents[place - 1]))
            ))
            for place, latent in enumerate(latents)
            for test in [planted_set(truth, latent)]
        ]  # fmt: skip

    with LLMServer() as server:
        found = run(server, tmp_path, work)
    true, other = np.array([[s.metrics["auroc"].value for s in pair] for pair in found]).T
    assert true.min() >= 0.9
    assert 0.4 <= other.mean() <= 0.6
    gains = {o.value for pair in found for s in pair for o in s.outcomes if isinstance(o, Number)}
    assert all(gain % (AGAIN - NEW) == 0 for gain in gains)  # only words that were told gain


CODE = {  # what a line of code is about, in its own words, and lines
    "self size": ["self.name = name", "self.size = size", "return self.size", "self.x += 1"],
    "raise ValueError": ["raise ValueError(x)", "raise ValueError('no')", "raise ValueError(s)"],
    "import os sys": ["import os, sys", "import sys", "import os", "from os import path"],
}


@pytest.fixture(scope="module")
def demo() -> Any:
    return load_subject("demo")


def test_the_demos_model_finds_lines_likelier_after_their_own_words(demo: Any) -> None:
    """A model of two layers copies; more of understanding is not to be had from it."""

    def area(said: str, of: str) -> float:
        test = [item([line], "activating") for line in CODE[of]]
        test += [item([line], "random") for other in CODE if other != of for line in CODE[other]]
        return score(LocalLM(demo), labelled(test), said).metrics["auroc"].value

    true = [area(said, said) for said in CODE]
    other = [area(said, of) for said in CODE for of in CODE if said != of]
    assert min(true) > 0.6
    assert np.mean(other) < 0.5 < 0.8 < np.mean(true)


def test_rows_of_many_latents_together_give_what_one_at_a_time_gives(demo: Any) -> None:
    said = [*CODE, "numbers", "a much longer explanation of nothing in particular " * 3]
    test = labelled([item([line], "random" if i % 2 else "activating")
                     for lines in CODE.values() for i, line in enumerate(lines)])  # fmt: skip

    async def work(together: bool) -> list[float]:
        lm = LocalLM(demo)
        scorer = SurprisalScorer(templates=Templates(), base_lm=lm)
        tasks = [scorer.score(Explanation(LATENT, s, ""), with_test(LATENT, test)) for s in said]
        made = await asyncio.gather(*tasks) if together else [await task for task in tasks]
        await lm.aclose()
        return [o.value for s in made for o in s.outcomes if isinstance(o, Number)]

    np.testing.assert_allclose(asyncio.run(work(True)), asyncio.run(work(False)), atol=1e-4)


def test_golden() -> None:
    from autointerp.llm.client import Message

    lm = Table()
    score(lm, TEST, "names of cats")
    prompts = dict.fromkeys(before for before, _ in lm.asked)
    check_golden("judge/surprisal", [Message("user", prompt) for prompt in prompts])

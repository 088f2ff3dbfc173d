"""The judge that compares how likely yes and no are to a base language model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from golden import check_golden

from autointerp.judges import NoVerdict, Pick, Verdict
from autointerp.judges.logprob import NO, YES, LogprobJudge, LogprobJudgeOptions
from autointerp.latents import Example, ExampleBlock, LatentId
from autointerp.llm.templates import Templates
from autointerp.registry import judges

LATENT = LatentId("a", 1)
TEXTS = ["the cat sat", "a dog ran", 'she said "cat"\n']


class Biased:
    """Prefers yes by ``bias`` nats, by 2 more where the described word is in the text."""

    def __init__(self, bias: float = 0.0, fails: Callable[[str], bool] = lambda _: False) -> None:
        self.bias, self.fails = bias, fails
        self.asked: list[tuple[str, str]] = []

    async def logprobs(self, continuations: Sequence[tuple[str, str]]) -> list[float | str]:
        self.asked += continuations
        return [self._one(*pair) for pair in continuations]

    def _one(self, before: str, answer: str) -> float | str:
        described, text = before.splitlines()[-3:-1]
        if self.fails(text):
            return "too long"
        holds = described.removeprefix("Described: ") in text
        return -1.0 if answer == NO else -1.0 + self.bias + 2.0 * holds


def examples(texts: Sequence[str] = TEXTS) -> list[Example]:
    """Windows of one token each."""
    n = len(texts)
    block = ExampleBlock(
        owner=LATENT,
        documents=np.arange(n),
        starts=np.zeros(n, np.int64),
        token_ids=np.arange(n, dtype=np.int32)[:, None],
        activations=np.full((n, 1), np.nan, np.float32),
        left_ids=np.full((n, 1), n, np.int32),
        vocabulary=[*texts, " left"],
    )
    return block.examples()


def judge(lm: Biased, **options: Any) -> LogprobJudge:
    return LogprobJudge(LogprobJudgeOptions(**options), templates=Templates(), base_lm=lm)


def detect(lm: Biased, explanation: str = "cat", **options: Any) -> list[Verdict | NoVerdict]:
    return asyncio.run(judge(lm, **options).detect(explanation, examples(), latent=LATENT))


@pytest.mark.parametrize("bias", [-5.0, 0.0, 5.0])
def test_a_model_that_prefers_one_answer_is_calibrated(bias: float) -> None:
    yes = 1 / (1 + np.exp(-2.0))
    found = detect(Biased(bias))
    assert [v.probability for v in found if isinstance(v, Verdict)] == pytest.approx(
        [yes, 0.5, yes]
    )
    assert [v.label for v in found if isinstance(v, Verdict)] == [True, False, True]


def test_without_calibration_the_preference_counts_and_half_is_asked() -> None:
    lm, calibrated = Biased(5.0), Biased(5.0)
    assert all(v.label for v in detect(lm, calibrate=False) if isinstance(v, Verdict))
    detect(calibrated)
    assert 2 * len(lm.asked) == len(calibrated.asked) == 12


def test_what_is_not_measured_has_no_verdict_alone() -> None:
    found = detect(Biased(fails=lambda text: "dog" in text))
    assert found[1] == NoVerdict("too long")
    assert isinstance(found[0], Verdict)
    assert isinstance(found[2], Verdict)


@pytest.mark.parametrize("nats", [np.nan, np.inf, -np.inf])
def test_a_gain_that_is_not_finite_is_no_verdict(nats: float) -> None:
    lm = Biased(nats)
    found = detect(lm, calibrate=False)
    assert found == [NoVerdict(f"yes gains {nats} nats")] * 3
    chosen = judge(lm).choose(["dog", "cat"], examples(TEXTS[:1]), latent=LATENT)
    assert isinstance(asyncio.run(chosen)[0], NoVerdict)


def test_marked_tokens_are_asked_about_with_their_marks() -> None:
    lm = Biased()
    marks = [np.ones(1, bool)] * 3
    found = asyncio.run(judge(lm).fuzz("«the cat sat»", examples(), marks, latent=LATENT))
    assert [v.label for v in found if isinstance(v, Verdict)] == [True, False, False]
    assert all("stands between « and »" in before for before, _ in lm.asked)


def test_the_explanation_after_which_yes_gains_most_is_chosen() -> None:
    work = judge(Biased(3.0)).choose(["dog", "cat"], examples(TEXTS[:2]), latent=LATENT)
    assert asyncio.run(work) == [Pick(1), Pick(0)]


def test_golden() -> None:
    from autointerp.llm.client import Message

    lm = Biased()
    detect(lm, "words for cats")
    prompts = dict.fromkeys(before for before, _ in lm.asked)
    check_golden("judge/logprob", [Message("user", f"{p}⟨{NO}|{YES}⟩") for p in prompts])


def test_the_registered_judge_says_what_it_needs() -> None:
    kind = judges.get("logprob")
    assert kind.options().needs() == {"base_lm", "templates"}
    assert kind.options(llm="judge").needs() == {"client", "templates"}
    assert kind.options(llm="judge").asks
    with pytest.raises(ValueError, match="not both"):
        kind.options(llm="judge", model="x")

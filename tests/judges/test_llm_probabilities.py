"""Probabilities of the LLM judge's labels, from the log probabilities of their tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_judging import asked_texts, detection, examples, judge_all, truthful
from llm_server import Body, LLMServer, _send

from autointerp.judges import NoVerdict, Verdict
from autointerp.judges.logprobs import yes_probabilities
from autointerp.latents import Label
from autointerp.llm.client import Reply, TokenLogprob, Usage


class Probable(LLMServer):
    """Tells the probability of every label, token by token as a real server does."""

    def __init__(self, answer: Callable[[Body], Any], yes: Callable[[str], float]) -> None:
        super().__init__(answer)
        self.yes = yes

    def _completion(self, body: Body, key: str, fault: str | None) -> Body:
        reply = super()._completion(body, key, fault)
        reply["choices"][0]["logprobs"] = {"content": self._tokens(body)}
        return reply

    def _tokens(self, body: Body) -> list[Body]:
        tokens = [_token('{"', []), _token("labels", []), _token('":', [])]
        for i, text in enumerate(asked_texts(body)):
            yes, label = self.yes(text), self.answer(body)["labels"][i]
            mass = {"0": 0.5 * (1 - yes), "1": 0.5 * yes, "\n": 0.5}
            tokens += [_token(", " if i else " [", []), _token(str(label), list(mass.items()))]
        return [*tokens, _token("]}", [])]


def _token(text: str, top: Sequence[tuple[str, float]]) -> Body:
    logprobs = {token: math.log(mass) for token, mass in top}
    return {
        "token": text,
        "logprob": logprobs.get(text.strip(" [,"), 0.0),
        "top_logprobs": [{"token": t, "logprob": p} for t, p in logprobs.items()],
    }


def test_auroc_comes_from_logprobs(tmp_path: Path) -> None:
    """Labels are all 0, yet the probabilities rank all but one pair rightly."""
    yes = {f"t{i} #{i}": (0.9 - 0.02 * i if i < 10 else 0.1 + 0.01 * i) for i in range(20)}
    yes["t9 #9"], yes["t19 #19"] = 0.5, 0.55
    with Probable(lambda body: {"labels": [0] * len(asked_texts(body))}, yes.__getitem__) as server:
        score = detection(server, tmp_path, ["activating"] * 10 + ["random"] * 10)
    assert score.metrics["auroc"].value == pytest.approx(0.99)
    assert score.metrics["recall"].value == 0
    found = [outcome.probability for outcome in score.outcomes if isinstance(outcome, Label)]
    assert found == pytest.approx(list(yes.values()))


def reply(*tokens: TokenLogprob) -> Reply:
    return Reply("", None, tokens, Usage(), False, "")


def plain(text: str) -> TokenLogprob:
    return TokenLogprob(text, 0.0)


def digit(text: str, **top: float) -> TokenLogprob:
    masses = {{"one": "1", "zero": "0", "spaced": " 1", "blank": " "}[k]: m for k, m in top.items()}
    alternatives = tuple((token, math.log(mass)) for token, mass in masses.items())
    return TokenLogprob(text, dict(alternatives).get(text, -0.1), alternatives)


def test_probabilities_are_of_one_against_nought_however_they_are_written() -> None:
    tokens = [
        plain('Sure, "labels": [0]. {"'), plain('labels":['),
        digit("1", one=0.6, zero=0.1, spaced=0.1, blank=0.2), plain(","), digit("0", zero=0.5),
        plain("]}"),
    ]  # fmt: skip
    assert yes_probabilities(reply(*tokens), [1, 0]) == pytest.approx([7 / 8, 0.0])


@pytest.mark.parametrize(
    "tokens",
    [[], [plain('{"labels":[1,0]}')], [plain('{"labels":['), plain("1,0"), plain("]}")]],
)
def test_labels_without_tokens_of_their_own_have_no_probability(tokens: list[TokenLogprob]) -> None:
    assert yes_probabilities(reply(*tokens), [1, 0]) == [None, None]


@given(
    st.lists(st.tuples(st.booleans(), st.floats(1e-6, 1 - 1e-6)), min_size=1, max_size=9),
    st.sampled_from(["", " ", "\n  "]),
)
def test_every_label_has_the_probability_of_its_own_token(
    labels: list[tuple[bool, float]], blank: str
) -> None:
    tokens = [plain('{"labels"'), plain(":["), plain(blank)]
    for label, yes in labels:
        tokens += [digit(str(int(label)), one=yes, zero=1 - yes), plain("," + blank)]
    tokens[-1] = plain("]}")
    found = yes_probabilities(reply(*tokens), [int(label) for label, _ in labels])
    assert found == pytest.approx([yes for _, yes in labels])


def test_an_endpoint_without_logprobs_is_asked_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Unable(truthful) as server:
        verdicts = judge_all(server, tmp_path, examples([f"t{i}" for i in range(20)]))
    assert [v.label for v in verdicts if isinstance(v, Verdict)] == [True, False] * 10
    assert len(caplog.records) == 1


def test_a_model_that_speaks_of_logprobs_is_still_asked_for_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with LLMServer(lambda body: {"labels": ["logprobs"]}) as server:
        (verdict,) = judge_all(server, tmp_path, examples(["a"]))
        assert sum(server.stats.asked.values()) == 2  # the question and its repair
    assert isinstance(verdict, NoVerdict)
    assert "logprobs" in verdict.reason
    assert not caplog.records


class Unable(LLMServer):
    """Refuses requests for logprobs, as the endpoints of reasoning models do."""

    async def _reply(self, answer: Body, fault: str | None, writer: Any) -> bool:
        if "logprobs" in answer["choices"][0]:
            error = {"error": {"message": "logprobs are not supported with this model"}}
            return await _send(writer, 400, error)
        return await super()._reply(answer, fault, writer)

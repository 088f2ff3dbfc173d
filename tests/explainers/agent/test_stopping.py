"""The cycle with scripted roles always ends, and says why."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count

import pytest
from agent_world import (
    CAT,
    Script,
    always,
    events_of,
    honest_design,
    plan,
    search,
    words_around,
)

from autointerp.explainers.agent.roles import (
    EvidenceTable,
    Hypothesis,
    ProbePlan,
    Revision,
)


def test_always_refine_ends_at_a_cap() -> None:
    numbers = count()

    def refine(table: EvidenceTable, missed: object) -> list[Revision]:
        return [
            Revision("narrow", (s.hypothesis.id,), (Hypothesis(f"refined {next(numbers)}"),))
            for s in table.open
        ]

    def design(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        return honest_design("dog", "cat")(table, hypotheses)

    result = search(Script(always(CAT), design, refine))
    assert "cap of 6 rounds" in result.stopped
    assert not result.confirmed
    assert len(events_of(result, "revision")) == 6


def test_splitting_without_end_stays_bounded() -> None:
    numbers = count()

    def split(table: EvidenceTable, missed: object) -> list[Revision]:
        return [
            Revision("split", (s.hypothesis.id,),
                     tuple(Hypothesis(f"part {next(numbers)}") for _ in range(9)))
            for s in table.open
        ]  # fmt: skip

    def design(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        texts = words_around("dog", 6, table.round)
        return [plan(text, {h.id: "on" for h in hypotheses}) for text in texts]

    result = search(Script(always(CAT), design, split))
    assert len(result.ledger.open()) <= 8
    assert "cap" in result.stopped


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        ({"probes": 5}, "cap of 5 probes"),
        ({"calls": 3}, "cap of 3 calls"),
        ({"prompt_tokens": 2500}, "cap of 2500 prompt tokens"),
        ({"rounds": 2}, "cap of 2 rounds"),
    ],
)
def test_every_cap_ends_it(caps: dict[str, float], said: str) -> None:
    def abstaining(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        texts = words_around("cat", 3, table.round)
        return [plan(text, {h.id: "on" for h in hypotheses}) for text in texts]

    result = search(Script(always(CAT), abstaining, prompt_tokens=1000), **caps)
    assert said in result.stopped
    assert result.measured <= caps.get("probes", 80)
    assert events_of(result, "stop")[0]["reason"] == result.stopped


def test_a_hanging_role_ends_with_the_time() -> None:
    class Hanging(Script):
        async def propose(self, table: EvidenceTable) -> list[Hypothesis]:
            await asyncio.sleep(60)
            return []

    result = search(Hanging(always(CAT)), seconds=0.05)
    assert "0.05 seconds" in result.stopped


def test_a_hanging_judge_ends_with_the_time() -> None:
    result = search(Script(always(CAT), honest_design("cat")), judged_after=[60], seconds=0.5)
    assert "0.5 seconds" in result.stopped
    assert [entry.hypothesis.text for entry in result.confirmed] == [CAT.text]
    assert result.uncovered == 0.0


def test_three_failures_in_a_row_end_the_latent() -> None:
    result = search(Script(lambda table: None))
    assert result.failed
    assert "propose made no sense" in result.stopped


def test_two_failures_do_not() -> None:
    replies = iter([None, None, [CAT]])
    result = search(Script(lambda table: next(replies), honest_design("cat")))
    assert not result.failed
    assert result.confirmed


def test_a_design_that_fails_costs_a_round_and_no_more() -> None:
    honest = honest_design("cat")

    def once_failing(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> object:
        return None if table.round == 1 else honest(table, hypotheses)

    result = search(Script(always(CAT), once_failing))  # type: ignore[arg-type]
    assert result.rounds == 2
    assert result.confirmed

"""What a process tells of its pace, its requests and its money."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from autointerp.llm.accounts import Ledger
from autointerp.llm.client import Usage
from autointerp.pipeline.failing import kind_of
from autointerp.pipeline.telemetry import WINDOW, Telemetry
from autointerp.report.progress import duration, headline, lines
from autointerp.sections import BudgetSection


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def telemetry(earlier: dict[str, Any] | None = None) -> tuple[Telemetry, Clock]:
    clock = Clock()
    return Telemetry(Ledger(), BudgetSection(dollars=2), earlier, clock), clock


def test_the_pace_is_that_of_the_last_minute() -> None:
    told, clock = telemetry()
    told.note("explain", 0, 1000)
    told.describe()
    for second in range(1, 201):
        clock.now += 1
        told.note("explain", second if second <= 100 else 100 + 3 * (second - 100), 1000)
        told.ledger.gate.sent += 5
        progress = told.describe()["progress"]
    assert progress["done"] == 400
    assert progress["per_second"] == pytest.approx(3.0)
    assert progress["seconds_left"] == pytest.approx(200.0)
    assert told.describe()["llm"]["requests_per_second"] == pytest.approx(5.0, rel=1 / WINDOW)
    told.note("score", 7, 1000)  # what a resumed stage finds done is no pace
    clock.now += 10
    assert told.describe()["progress"] == {
        "stage": "score", "done": 7, "total": 1000, "per_second": 0.0, "seconds_left": None,
    }  # fmt: skip


def test_money_and_trouble_add_up_over_the_starts_of_a_run() -> None:
    earlier = {"faults": {"busy": 2}, "repaired": 1, "unusable": 0, "unpriced": 0}
    told, _ = telemetry(earlier)
    ledger = told.ledger
    ledger.before = Usage(prompt_tokens=50, dollars=0.5)
    ledger.add(Usage(prompt_tokens=100, cached_tokens=40, dollars=0.25), journaled=False)
    ledger.add(Usage(prompt_tokens=900, dollars=9.0), journaled=True)
    ledger.faults = Counter(busy=1, timeout=1)
    ledger.unusable, ledger.unpriced = 3, 1
    document = told.describe()
    assert document["budget"]["dollars"] == {"spent": 0.75, "limit": 2}
    assert document["budget"]["prompt_tokens"] == {"spent": 150, "limit": None}
    llm = document["llm"]
    assert (llm["requests"], llm["journaled"], llm["cached_share"]) == (1, 1, 0.4)
    assert llm["faults"] == {"busy": 3, "timeout": 1}
    assert (llm["repaired"], llm["unusable"], llm["unpriced"]) == (1, 3, 1)


def test_a_status_is_told_in_plain_lines() -> None:
    told, clock = telemetry()
    told.note("explain", 0, 40)
    clock.now += 10
    told.note("explain", 10, 40)
    told.ledger.add(Usage(prompt_tokens=100, cached_tokens=40, dollars=0.25), journaled=False)
    told.ledger.faults, told.ledger.unpriced = Counter(busy=3), 2
    figures = {"metric": "m", "n": 4, "mean": 0.7, "low": 0.6, "high": 0.8}
    document = {
        **told.describe(), "stage": "explain", "failures": {"no answer": 2},
        "scores": {"detection": {**figures, "controls": {"shuffled": 0.5}}},
    }  # fmt: skip
    assert list(lines(document)) == [
        "explain 10 of 40 (25%), 1/s, 30 s left",
        "0 requests/s, 0 in flight, 1 answered, 40% of prompt tokens cached",
        "spent: $0.25 of $2, 100 prompt tokens",
        "failed: no answer 2",
        "sent again after answers that the server is busy: 3 times",
        "2 answers have no known price and are in no sum of dollars; set llms.NAME.prices",
        "detection: m 0.700 (0.600 to 0.800) over 4, shuffled 0.500",
    ]


def test_silence_of_a_running_process_is_told() -> None:
    document = {
        "run": "r", "stage": "score", "running": True, "age": 300.0, "seconds": 9.0, "host": "n1",
        "by_status": {}, "latents": 3,
    }  # fmt: skip
    assert next(headline(document)) == "r: score, 9 s on n1; no news for 5 min"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("ValueError: not [this] one", "ValueError"),
        ("gpt-5: no answer in 8 attempts; at last: the server answered 500: x", "no answer"),
        (
            "no item was judged: gpt gave no usable reply, nor after one repair: $",
            "no usable reply",
        ),
        ("llms.judge: the server answered 400: context length", "server answered 400"),
        ("something else", "something else"),
    ],
)
def test_reasons_have_kinds(reason: str, kind: str) -> None:
    assert kind_of(reason) == kind


@pytest.mark.parametrize(
    ("seconds", "told"), [(5, "5 s"), (600, "10 min"), (7200, "2.0 h"), (5e5, "5.8 days")]
)
def test_durations(seconds: float, told: str) -> None:
    assert duration(seconds) == told

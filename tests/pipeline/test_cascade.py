"""Runs whose explainer has tiers: who is escalated, what is published, and what it cost."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llm_server import Body, LLMServer
from planted_coders import Planted
from small_run import contents, document, left_alone, refusal, settings

from autointerp.cli import main
from autointerp.explainers.agent.explainer import AgentExplainer
from autointerp.explainers.pattern import PatternExplainer
from autointerp.latents import Evidence, Explanation, LabelledSet
from autointerp.llm.client import BudgetExhausted
from autointerp.pipeline.results import Results
from autointerp.pipeline.standings import select_value

PATTERNS = "explainer={tiers: [{kind: pattern}, {kind: agent}], escalate_below: 0.99}"
SENTENCES = "explainer={tiers: [{kind: pattern}, {kind: single_pass}], escalate_below: 0.9}"
TEXT = re.compile(r'^\d+\. (\[".*"\])$', re.MULTILINE)


@pytest.fixture(scope="module")
def collected(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return left_alone(tmp_path_factory.mktemp("collected"), settings(planted), "collect")


@pytest.fixture
def run(collected: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(collected, tmp_path / "run"))


def explanations(run: Path, name: str) -> dict[str, Explanation]:
    """One explainer's rows, with their details, by latent."""
    with Results.read(run / "results.sqlite") as results:
        return {str(e.latent): e for e in results.explanations(name, details=True)}


def select_values(run: Path, tier: str) -> dict[str, float]:
    with Results.read(run / "results.sqlite") as results:
        return {
            str(s.score.latent): select_value(s.score)
            for s in results.scores("select")
            if s.score.status == "scored" and str(s.score.explanation).endswith(f":{tier}")
        }


def test_only_what_is_below_the_bar_is_escalated(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "run", "--run", str(run), PATTERNS)
    first, second = select_values(run, "pattern"), select_values(run, "agent")
    low = {latent for latent, value in first.items() if value < 0.99}
    published = explanations(run, "cascade")
    tried = explanations(run, "agent")
    assert len(published) == 8
    assert len(explanations(run, "pattern")) == 8
    assert set(tried) == low
    assert 0 < len(low) < len(first) < 8  # some are above the bar, some cannot be judged
    for latent, explanation in published.items():
        values = {"pattern": first.get(latent), "agent": second.get(latent)}
        better = second.get(latent, 0.0) > first.get(latent, 1.0) + 0.02
        tier = explanation.details["tier"]
        assert tier == ("agent" if better else "pattern")
        assert explanation.details["select"] == {k: v for k, v in values.items() if v is not None}
        assert explanation.text == explanations(run, tier)[latent].text
    tiers = {tier["tier"]: tier for tier in found["cascade"]["tiers"]}
    assert tiers["pattern"]["tried"] == 8
    assert tiers["pattern"]["after"] == pytest.approx(sum(first.values()) / len(first))
    assert tiers["agent"]["tried"] == len(low)
    assert tiers["agent"]["waiting"] == 0
    assert tiers["agent"]["before"] == pytest.approx(sum(first[x] for x in low) / len(low))
    best = [max(first[latent], second[latent]) for latent in low]
    assert tiers["agent"]["after"] == pytest.approx(sum(best) / len(best))
    assert found["cascade"]["stopped"] is None
    assert found["scores"]["detection"]["n"] == 7
    assert list(found["scores"]) == ["detection"]


def test_a_finished_run_does_nothing_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = document(capsys, "explain", "--run", str(run), PATTERNS)
    with Results.read(run / "results.sqlite") as results:
        before = results.explanations(details=True)
    again = document(capsys, "explain", "--run", str(run))
    with Results.read(run / "results.sqlite") as results:
        assert results.explanations(details=True) == before  # cost and all
    assert again["cascade"] == first["cascade"]


@pytest.fixture
def interrupted_agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    async def interrupt(*_: object) -> Explanation:
        raise KeyboardInterrupt

    monkeypatch.setattr(AgentExplainer, "explain", interrupt)
    yield monkeypatch
    monkeypatch.undo()


def test_a_run_interrupted_between_tiers_ends_as_one_left_alone(
    run: Path,
    collected: Path,
    tmp_path: Path,
    interrupted_agent: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "--run", str(run), PATTERNS]) == 130
    capsys.readouterr()
    assert {e.details["tier"] for e in explanations(run, "cascade").values()} == {"pattern"}
    patterns = explanations(run, "pattern")
    interrupted_agent.undo()
    document(capsys, "explain", "--run", str(run))
    assert explanations(run, "pattern") == patterns  # cost and all: not made again
    alone = Path(shutil.copytree(collected, tmp_path / "alone"))
    document(capsys, "explain", "--run", str(alone), PATTERNS)
    assert contents(run) == contents(alone)


def test_a_spent_budget_leaves_the_best_there_is_and_scores_of_old_texts_go(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern_learns = PatternExplainer.explain

    async def poor(
        self: PatternExplainer, evidence: Evidence, selection: LabelledSet
    ) -> Explanation:
        return replace(await pattern_learns(self, evidence, selection), text='"umbrella"')

    async def spent(*_: object) -> Explanation:
        raise BudgetExhausted("the budget of 1 dollars does not last")

    with monkeypatch.context() as patched:
        patched.setattr(PatternExplainer, "explain", poor)
        patched.setattr(AgentExplainer, "explain", spent)
        found = document(capsys, "run", "--run", str(run), PATTERNS)
    reason = found["cascade"]["stopped"]
    assert reason.startswith("escalation stopped in agent, 6 of 6 latents left: the budget of 1 d")
    assert found["explained"] == 7
    assert found["scores"]["detection"]["mean"] < 0.6
    status = json.loads((run / "status.json").read_text())
    assert (status["stage"], status["reason"]) == ("done", reason)
    assert next(t for t in found["cascade"]["tiers"] if t["tier"] == "agent")["waiting"] == 6
    assert main(["run", "--run", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "mean on SELECT after" in shown
    assert "warning" not in shown
    again = document(capsys, "run", "--run", str(run))
    assert again["cascade"]["stopped"] is None
    assert again["scores"]["detection"]["mean"] > 0.8
    published = explanations(run, "cascade")
    assert {e.details["tier"] for e in published.values()} == {"agent", "pattern"}


def test_a_latent_that_the_first_tier_failed_is_escalated_and_stops_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> Explanation:
        raise RuntimeError("broken")

    async def spent(*_: object) -> Explanation:
        raise BudgetExhausted("the budget does not last")

    monkeypatch.setattr(PatternExplainer, "explain", broken)
    with monkeypatch.context() as patched:
        patched.setattr(AgentExplainer, "explain", spent)
        found = document(capsys, "explain", "--run", str(run), PATTERNS, code=1)
    assert found["by_status"] == {"failed": 8}
    assert "escalation stopped in agent, 8 of 8 latents left" in found["cascade"]["stopped"]
    monkeypatch.undo()
    for option, failed in (([], 8), (["--retry-failed"], 0)):
        found = document(capsys, "explain", "--run", str(run), *option)
        assert found["failed"] == 0
        assert [tier["failed"] for tier in found["cascade"]["tiers"]] == [failed, 0]


def test_a_run_of_the_first_tier_alone_may_go_on_as_a_cascade(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document(capsys, "explain", "--run", str(run))
    patterns = explanations(run, "pattern")
    document(capsys, "explain", "--run", str(run), PATTERNS)
    assert explanations(run, "pattern") == patterns  # cost and all
    assert len(explanations(run, "cascade")) == 8
    line = refusal(capsys, ["explain", "--run", str(run), "explainer.tiers.0.max_words=9"])
    assert "explainer.pattern.max_words = 40" in line


def test_another_tier_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, "explain", "--run", str(run), PATTERNS)
    line = refusal(capsys, ["explain", "--run", str(run), "explainer.tiers.1.rounds=2"])
    assert "explainer.agent.rounds = 6" in line
    assert "says 2" in line
    swapped = "explainer.tiers=[{kind: agent}, {kind: pattern}]"
    line = refusal(capsys, ["explain", "--run", str(run), swapped])
    assert 'explainer.cascade.tiers = ["pattern", "agent"]' in line
    line = refusal(capsys, ["explain", "--run", str(run), "explainer.escalate_below=0.5"])
    assert "explainer.cascade.escalate_below = 0.99" in line


def words_are_read(body: Body) -> Any:
    """Explains by the words that are marked; takes no pattern for an explanation."""
    asked = body["messages"][-1]["content"]
    texts = [json.loads(line)[1] for line in TEXT.findall(asked)]
    if "<explanation>" not in asked:
        marked = " ".join(sorted(set(re.findall(r"<<\s*(\w+)\s*>>", " ".join(texts)))))
        return {"explanations": [{"description": f"Words: {marked}", "label": marked}]}
    said = re.search(r"<explanation>\nWords: (.*)\n", asked)
    words = said[1].split() if said else []
    return {"labels": [int(any(word in text.split() for word in words)) for text in texts]}


def asking(server: LLMServer, tmp_path: Path) -> list[str]:
    llm = json.dumps({"model": "test", "base_url": server.url, "prices": PRICES})
    return [
        SENTENCES,
        "scorers.0.judge=llm",
        f"llms.explainer={llm}",
        f"llms.judge={llm}",
        f"journal={tmp_path / 'journal.sqlite'}",
    ]


PRICES = {"prompt": 1.0, "completion": 1.0}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMServer]:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    with LLMServer(words_are_read) as serving:
        yield serving


def test_a_language_model_gains_and_its_cost_is_told(
    run: Path, server: LLMServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "explain", "--run", str(run), *asking(server, tmp_path))
    pattern, single = found["cascade"]["tiers"]
    assert pattern["published"] < 7
    assert (pattern["before"], pattern["after"]) == (None, 0.5)
    assert single["tried"] == single["published"] == 6
    assert single["before"] == 0.5
    assert single["after"] > 0.7
    assert pattern["requests"] > 6  # the judge's
    assert single["requests"] > pattern["requests"]
    assert single["prompt_tokens"] > 0
    assert single["dollars"] > 0
    assert found["cost"]["requests"] == pattern["requests"] + single["requests"]
    assert sum(server.stats.served.values()) == found["cost"]["requests"]


def test_a_budget_ends_escalation_and_more_of_it_goes_on(
    run: Path, server: LLMServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured = asking(server, tmp_path)
    budget = "budget.prompt_tokens=0"
    nothing = document(capsys, "explain", "--run", str(run), *configured, budget)
    assert nothing["by_status"] == {"explained": 7, "no_explanation": 1}
    assert "escalation stopped in pattern" in nothing["cascade"]["stopped"]
    assert "raise budget.prompt_tokens" in nothing["cascade"]["stopped"]
    assert not server.stats.served
    some = document(capsys, "explain", "--run", str(run), "budget.prompt_tokens=120_000")
    assert "escalation stopped in single_pass" in some["cascade"]["stopped"]
    assert some["cascade"]["tiers"][1]["tried"] > 0
    everything = document(capsys, "explain", "--run", str(run), "budget.prompt_tokens=null")
    assert everything["cascade"]["stopped"] is None
    assert everything["cascade"]["tiers"][1]["published"] == 6
    assert max(server.stats.served.values()) == 1  # nothing was paid twice


def test_without_any_explanation_a_spent_budget_stops_the_run(
    run: Path, server: LLMServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiers = "explainer.tiers=[{kind: single_pass}, {kind: agent, roles: llm}]"
    budget = "budget.prompt_tokens=0"
    configured = [*asking(server, tmp_path), tiers, budget]
    document(capsys, "run", "--run", str(run), *configured, code=1)
    assert json.loads((run / "status.json").read_text())["stage"] == "stopped"


def test_the_prompts_of_all_tiers_are_shown(
    run: Path, server: LLMServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document(capsys, "explain", "--run", str(run), *asking(server, tmp_path))
    latent = next(iter(explanations(run, "single_pass")))
    asked = len(server.stats.arrivals)
    shown = document(capsys, "prompts", str(run), latent)
    assert [request["purpose"] for request in shown["explainer"]] == ["explainer.single_pass"]
    assert document(capsys, "show", str(run), latent)["explanation"].startswith("Words: ")
    assert len(server.stats.arrivals) == asked

"""The agent as an explainer, on toy latents whose truth is a pattern."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from agent_world import (
    LATENT,
    NAMES,
    VOCABULARY,
    Script,
    ToySubject,
    UnmeasurableError,
    encode,
    evidence,
    honest_design,
    plan,
    selection,
)

from autointerp.explainers.agent import AgentExplainer, AgentOptions
from autointerp.explainers.agent.exemplars import Exemplars
from autointerp.explainers.agent.pattern_roles import PatternRoles
from autointerp.explainers.agent.roles import EvidenceTable, Hypothesis, ProbePlan, Roles
from autointerp.explainers.pattern import PatternExplainer
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import (
    AutointerpError,
    Evidence,
    Explanation,
    LatentId,
    Status,
)
from autointerp.patterns import Lexicon, Pattern, matches, parse
from autointerp.patterns.reading import Reader
from autointerp.registry import explainers


def _explainer(
    subject: ToySubject, roles: Roles | None = None, rivals: object = None
) -> AgentExplainer:
    return AgentExplainer(
        AgentOptions(roles="llm" if roles else "pattern"),
        probes=subject, refused=UnmeasurableError, encode=encode, judge=PatternJudge(),
        roles_factory=(lambda shown: roles) if roles else None, rivals=rivals,  # type: ignore[arg-type]
    )  # fmt: skip


def _explain(
    truth: Pattern, roles: Roles | None = None, measured: Pattern | None = None,
    rivals: object = None,
) -> Explanation:  # fmt: skip
    subject = ToySubject({LATENT: measured or truth})
    explainer = _explainer(subject, roles, rivals)
    return asyncio.run(explainer.explain(evidence(truth), selection(truth)))


RULES = [
    '"cat"',
    '"cat", "dog", "owl", "pig"',
    '"cat" after "the", "a"',
    '"cat" somewhere after "dog"',
    '"cat", "dog" unless after "the", "a", "of"',
    '"cat" after "fox"; or "pig"',
]


def _agreement(text: str, truth: Pattern) -> float:
    rng = np.random.default_rng(9)
    rows = [[VOCABULARY[i] for i in row] for row in rng.integers(1, len(VOCABULARY), (200, 24))]
    same = [any(matches(parse(text), r)) == any(matches(truth, r)) for r in rows]
    return float(np.mean(same))


@pytest.mark.parametrize("rule", RULES)
def test_pattern_roles_find_the_rule_and_confirm_it(rule: str) -> None:
    explanation = _explain(parse(rule), rivals={})
    assert explanation.status == "explained", explanation.reason
    assert _agreement(explanation.text, parse(rule)) >= 0.95, explanation.text
    assert str(parse(explanation.text)) == explanation.text
    assert explanation.details["label"]
    assert explanation.confidence is not None
    assert explanation.confidence > 0.8


def test_two_parts_are_two_components() -> None:
    explanation = _explain(parse('"cat" after "fox"; or "pig"'), rivals={})
    assert len(explanation.components) == 2


def test_the_result_is_json_and_the_same_again() -> None:
    one, other = (_explain(parse(RULES[3])) for _ in range(2))
    assert json.loads(json.dumps(one.details)) == one.details
    assert (one.text, one.details) == (other.text, other.details)
    assert {"probes", "hypotheses", "events", "unexplained", "select"} <= one.details.keys()
    probes = one.details["probes"]
    assert all(len(p["tokens"]) == len(p["levels"]) for p in probes)


def test_roles_that_are_never_right_find_no_explanation() -> None:
    for wrong in NAMES.split()[1:6]:
        hypothesis = Hypothesis(f'"{wrong}"', clusters=("c1",))
        roles = Script(lambda table, h=hypothesis: [h], honest_design(wrong, "ant"))  # type: ignore[misc]
        explanation = _explain(parse('"ant"'), roles)
        assert (explanation.status, explanation.text) == ("no_explanation", "nothing")
        assert explanation.reason


def test_failing_roles_fail_the_latent_with_the_reason() -> None:
    explanation = _explain(parse('"ant"'), Script(lambda table: None))
    assert explanation.status == "failed"
    assert "made no sense" in str(explanation.reason)


def test_measurements_of_other_latents_confirm_nothing() -> None:
    names = NAMES.split()[:14]
    rules = [parse(f'"{name}"') for name in names]
    rules += [parse(f'"{name}" after "the", "of", "a", "to"') for name in names]
    found = [
        _explain(truth, measured=other, rivals={})
        for truth, other in zip(rules, [*rules[7:], *rules[:7]], strict=True)
    ]
    confirmed = [
        any(h["state"] == "confirmed" for h in explanation.details["hypotheses"])
        for explanation in found
        if explanation.details
    ]
    assert len(confirmed) > 20
    print(f"confirmed on another latent's measurements: {np.mean(confirmed):.3f}")
    assert np.mean(confirmed) <= 0.05


def test_dead_and_sparse_latents_are_named() -> None:
    nothing = evidence(parse("nothing"))
    subject = ToySubject({LATENT: parse("nothing")})
    explained = asyncio.run(_explainer(subject).explain(nothing, selection(parse('"cat"'))))
    assert explained.status == "dead"
    rare = evidence(parse('"cat"'))
    rare = replace(rare, top=rare.top[:3], sampled=rare.sampled[:3])
    explained = asyncio.run(_explainer(subject).explain(rare, selection(parse('"cat"'))))
    assert explained.status == "too_few_examples"
    assert "needed" in str(explained.reason)
    assert subject.measured == []


class _Rival:
    def __init__(self, text: str) -> None:
        self.text = text

    async def explain(self, evidence: Evidence, selection: object) -> Explanation:
        status: Status = "explained" if self.text else "failed"
        return Explanation(
            evidence.latent, self.text, "rival",
            status=status, reason=None if self.text else "no answer",
        )  # fmt: skip


def test_the_better_text_on_select_is_published_and_the_simpler_of_equals() -> None:
    truth = parse('"cat"')
    often = ", ".join(f'"{word}"' for word in VOCABULARY[1:19])
    narrow = Hypothesis(f'"cat" after "the", "a", "of", {often}', clusters=("c1",))

    def design(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        frames = [f"{end} {word}" for word in ("the", "a", "of") for end in ("she", "he")]
        return [
            plan(f"{frame} {animal}", {"h1": said}, family=frame, **more)
            for frame in frames
            for animal, said, more in (
                ("cat", "on", {}),
                ("dog", "off", {"kind": "minimal_pair", "base": f"{frame} cat"}),
            )
        ]

    def published(rival: str) -> Explanation:
        rivals = {"rival": _Rival(rival), "broken": _Rival("")}
        return _explain(truth, Script(lambda t: [narrow], design), rivals=rivals)

    better = published('"cat"')
    assert (better.text, better.details["chosen"]) == ('"cat"', "rival")
    assert better.details["select"]["rival"] == 1.0
    own = better.details["select"]["agent"]
    told = f"the text is the rival explainer's: 1.000 on SELECT, the agent's own {own:.3f}"
    assert better.reason == told
    assert (better.details["label"], better.details["weights"]) == ('"cat"', [])
    assert better.components == ()
    assert better.details["rivals_without_text"] == {"broken": "no answer"}
    worse = published("nothing")
    assert (worse.text, worse.details["chosen"]) == (narrow.text, "agent")
    longer = published(f'{narrow.text} unless after "toad"')
    assert (longer.text, longer.details["chosen"]) == (narrow.text, "agent")
    assert "rival" not in str(longer.reason)
    shorter = published(narrow.text.replace('"cat", ', ""))
    assert shorter.details["chosen"] == "rival"
    assert str(shorter.reason).endswith("of texts within 0.02 the shortest is published")


def test_llm_roles_need_a_factory_and_the_kind_is_registered() -> None:
    with pytest.raises(AutointerpError, match="llms"):
        AgentExplainer(
            AgentOptions(roles="llm"), probes=ToySubject({}), refused=UnmeasurableError,
            encode=encode, judge=PatternJudge(),
        )  # fmt: skip
    assert explainers.get("agent").options is AgentOptions


def _designed(rule: str) -> tuple[Pattern, list[ProbePlan]]:
    shown = evidence(parse(rule))
    exemplars = Exemplars.of(shown, encode, 0)
    assert exemplars is not None
    reader = Reader(Lexicon(VOCABULARY), encode)
    roles = PatternRoles(exemplars, reader, PatternExplainer(), 0)
    hypothesis = Hypothesis(rule, id="h1", relation="coexists")
    table = EvidenceTable(LatentId("toy", 0), 1, exemplars.clusters(), ())
    return parse(rule), asyncio.run(roles.design(table, [hypothesis]))


@pytest.mark.parametrize("rule", RULES)
def test_designed_probes_are_what_they_say(rule: str) -> None:
    pattern, plans = _designed(rule)
    texts = {p.text for p in plans}
    for p in plans:
        expected = any(matches(pattern, p.text.split()))
        assert p.predictions == {"h1": "on" if expected else "off"}
        if p.kind in ("positive", "paraphrase"):
            assert expected
        if p.kind == "minimal_pair":
            assert p.base in texts
            assert not expected
            differing = zip(p.text.split(), str(p.base).split(), strict=True)
            assert sum(a != b for a, b in differing) == 1
    positives = [p for p in plans if p.predictions["h1"] == "on"]
    negatives = [p for p in plans if p.predictions["h1"] == "off"]
    assert len({p.family for p in positives}) >= 4
    assert len({p.family for p in negatives}) >= 4
    assert len(positives) >= 6
    assert len(negatives) >= 6

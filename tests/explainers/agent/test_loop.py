"""The cycle with scripted roles: what it counts, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from agent_world import (
    CAT,
    LATENT,
    TRUTH,
    Script,
    ToySubject,
    always,
    encode,
    events_of,
    evidence,
    honest_design,
    plan,
    search,
    words_around,
)

from autointerp.explainers.agent.exemplars import Exemplars
from autointerp.explainers.agent.roles import (
    EvidenceTable,
    Gap,
    Hypothesis,
    ProbePlan,
    Revision,
)
from autointerp.patterns import parse


def test_a_right_hypothesis_is_confirmed_in_one_round() -> None:
    roles = Script(always(CAT), honest_design("cat"))
    result = search(roles)
    assert [entry.hypothesis.text for entry in result.confirmed] == [CAT.text]
    assert (result.rounds, result.measured, result.uncovered) == (1, 12, 0.0)
    assert "all clusters are covered" in result.stopped
    assert roles.calls == ["propose", "design"]


def test_a_wrong_hypothesis_is_not() -> None:
    dog = Hypothesis("the word dog", clusters=("c1",))
    result = search(Script(always(dog), honest_design("dog", "cat")))
    assert not result.confirmed
    assert result.uncovered is None
    assert result.stopped == "no hypothesis is left to test"


def test_predictions_are_on_record_before_anything_is_measured() -> None:
    events = [event["event"] for event in search(Script(always(CAT), honest_design("cat"))).events]
    assert events.index("measured") > max(i for i, e in enumerate(events) if e == "probe")


def test_a_rewritten_text_starts_with_empty_counts() -> None:
    dog = Hypothesis("the word dog", clusters=("c1",))
    rewritten = Revision("narrow", ("h1",), (Hypothesis("the word cat, alone"),))
    roles = Script(always(dog), honest_design("dog", "cat"), lambda t, m: [rewritten])
    result = search(roles, rounds=1)
    assert result.ledger.entries["h1"].place == "gone"
    assert result.ledger.entries["h1"].counted
    assert result.ledger.entries["h2"].counted == []


def test_old_probes_never_count_for_a_new_text() -> None:
    """The same texts again are dropped as repeats, whoever predicts them."""
    first = honest_design("cat")(EvidenceTable(LATENT, 1, (), ()), [Hypothesis("x", id="h1")])

    def again(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        return [
            plan(p.text, {h.id: p.predictions["h1"] for h in hypotheses}, kind=p.kind,
                 family=p.family, **({"base": p.base} if p.base else {}))
            for p in first
        ]  # fmt: skip

    late = Revision("add", (), (Hypothesis("a late one"),))
    unclaimed = Hypothesis("the word cat")
    result = search(Script(always(unclaimed), again, review_with=lambda t, g: [late]), rounds=3)
    repeats = [e for e in events_of(result, "invalid probe") if "repeats" in str(e["reason"])]
    assert len(repeats) == 24
    assert result.ledger.entries["h2"].counted == []
    assert [entry.hypothesis.text for entry in result.confirmed] == ["the word cat"]


NONSENSE = ["", " \n", "cat " * 2000, "cat \0 cat", "cat \ud800", "cat 'quoted\" \n🙂 cat"]


def test_nonsense_probes_are_recorded_and_change_nothing() -> None:
    def design(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        name = hypotheses[0].id
        pairs = [plan("the dog", {name: "off"}, kind="minimal_pair", base=t) for t in NONSENSE[:5]]
        odd = [plan("a cat", {"h99": "on"}), plan("a cat", {name: "perhaps"})]
        odd += [plan("a cat", {name: "on"}, kind="sonnet")]
        return [*(plan(t, {name: "on"}) for t in NONSENSE), *pairs, *odd]

    subject = ToySubject({LATENT: TRUTH})
    result = search(Script(always(CAT), design), subject)
    assert set(subject.measured) == {NONSENSE[-1]}
    assert "moved no posterior" in result.stopped
    json.dumps(result.events).encode()
    assert all(str(event).encode("utf-8", "strict") for event in result.events)


def test_an_unmeasurable_text_is_no_zero() -> None:
    subject = ToySubject({LATENT: TRUTH}, refuses=lambda text: text.startswith("the"))

    def design(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        return [plan("the cat", {"h1": "on"}), plan("a cat", {"h1": "on"})]

    result = search(Script(always(CAT), design), subject, rounds=1)
    assert [probe.plan.text for probe in result.ledger.probes.values()] == ["a cat"]
    assert result.ledger.entries["h1"].belief.hits.probes == 1
    assert "context" in str(events_of(result, "invalid probe")[0]["reason"])


def test_void_pairs_and_easy_negatives_do_not_count() -> None:
    def design(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        return [
            plan("the dog here", {"h1": "off"}, kind="minimal_pair", base="the owl here"),
            plan("the dog there", {"h1": "off"}, kind="minimal_pair", base="the cat there"),
            plan("wholly unrelated words", {"h1": "off"}, kind="hard_negative"),
            plan("Cat", {"h1": "off"}, kind="boundary"),
        ]

    result = search(Script(always(CAT), design), rounds=1)
    belief = result.ledger.entries["h1"].belief
    assert belief.pairs == 1
    assert belief.rejections.probes == 2  # the valid pair, and the trigger's other spelling
    assert belief.hits.probes == 0


def test_parts_of_an_either_or_do_not_rule_each_other_out() -> None:
    parts = [Hypothesis(f"the word {w}", relation="coexists") for w in ("cat", "dog")]

    def design(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        return [plan("the cat", {"h1": "on", "h2": "off"}), plan("the dog", {"h1": "off"})]

    result = search(Script(always(*parts), design), truth=parse('"cat", "dog"'), rounds=1)
    assert not result.ledger.entries["h2"].counted
    assert result.ledger.entries["h1"].belief.rejections.successes == 0


def test_uncovered_clusters_are_reviewed_once() -> None:
    gaps: list[Gap] = []

    def design(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        trigger = hypotheses[0].text.split()[-1]
        return honest_design(trigger)(table, hypotheses)

    truth = parse('"cat", "dog"')
    exemplars = Exemplars.of(evidence(truth), encode, 0)
    assert exemplars is not None
    first = exemplars.clusters()[0].peak
    second = {"cat": "dog", "dog": "cat"}[first]

    def add(table: EvidenceTable, found: Sequence[Gap]) -> list[Revision]:
        gaps.extend(found)
        return [Revision("add", (), (Hypothesis(f"the word {second}", clusters=("c2",)),))]

    hypothesis = Hypothesis(f"the word {first}", clusters=("c1",))
    result = search(Script(always(hypothesis), design, review_with=add), truth=truth)
    assert [gap.clusters for gap in gaps if gap.kind == "uncovered_cluster"] == [("c2",)]
    assert len(result.confirmed) == 2


def test_what_a_merged_hypothesis_replaces_stays_until_it_is_confirmed() -> None:
    merged = Hypothesis("cats of any kind", clusters=("c1",))

    def propose(table: EvidenceTable) -> list[Hypothesis]:
        return [Hypothesis("the word cat", clusters=())]

    review = Revision("merge", ("h1",), (merged,))
    result = search(Script(propose, honest_design("cat"), review_with=lambda t, g: [review]))
    assert [entry.hypothesis.text for entry in result.confirmed] == [merged.text]
    short = search(
        Script(propose, honest_design("cat"), review_with=lambda t, g: [review]), rounds=1
    )
    assert [entry.hypothesis.text for entry in short.confirmed] == ["the word cat"]


def test_tables_are_bounded_and_hide_the_held_back() -> None:
    tables: list[EvidenceTable] = []

    def design(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        tables.append(table)
        texts = words_around("cat", 12, table.round)
        return [plan(text, {h.id: "on" for h in hypotheses}) for text in texts]

    result = search(Script(always(CAT), design))
    held = {tuple(e.tokens) for e in result.ledger.exemplars.held_back}
    assert held
    for table in tables:
        assert len(table.probes) <= 24
        shown = {x.tokens for cluster in table.clusters for x in cluster.excerpts}
        assert not shown & held
        levels = {level for c in table.clusters for x in c.excerpts for level in x.levels}
        assert levels <= set(range(11))


def test_the_same_replies_give_the_same_events() -> None:
    runs = [search(Script(always(CAT), honest_design("cat", "dog"))).events for _ in range(2)]
    assert runs[0] == runs[1]
    assert json.loads(json.dumps(runs[0])) == runs[0]


def test_peaks_do_not_set_the_scale() -> None:
    shown = evidence(TRUTH)
    shown.top[0].activations[shown.top[0].activations.argmax()] = np.float32(1000)
    exemplars = Exemplars.of(shown, encode, 0)
    assert exemplars is not None
    scale = exemplars.scale
    assert scale.strong == 1.0
    assert (scale.on, scale.off) == (0.5, 0.02)
    assert [scale.reading(x) for x in (0.5, 0.4, 0.02)] == ["on", "graded", "off"]
    assert scale.levels([0.0, 0.001, 0.54, 2.0]) == (0, 1, 5, 10)

"""Roles played by a language model: what it is asked, what it may answer, and what that costs."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from golden import check_golden
from hypothesis import given
from hypothesis import strategies as st
from llm_asking import run
from llm_server import LLMServer
from pydantic import ValidationError

from autointerp.explainers.agent.llm_roles import LLMRoles
from autointerp.explainers.agent.replies import DesignReply, ProposeReply, RevisionsReply
from autointerp.explainers.agent.roles import (
    Cluster,
    EvidenceTable,
    Excerpt,
    Gap,
    Hypothesis,
    MeasuredProbe,
    Misprediction,
    ProbePlan,
    RoleFailure,
    Standing,
)
from autointerp.explainers.agent.showing import MOST_TOKENS, marked, missed, values
from autointerp.latents import Cost, LatentId
from autointerp.llm.accounts import metered
from autointerp.llm.opening import LLMs
from autointerp.llm.structured import response_format
from autointerp.llm.templates import Templates

T = TypeVar("T")
Body = dict[str, Any]

ONE = Hypothesis("the word zebra", "zebra", clusters=("c1",), id="h1")
TWO = Hypothesis('"for" after newlines', "loops", level=6, relation="coexists", id="h2")
DONE = Hypothesis("the word horse", "horse", clusters=("c2",), id="h3")
TEXT = Excerpt(
    "the zebra ran to\n  the zebra", ("the", " zebra", " ran", " to", "\n  ", "the", " zebra"),
    (0, 9, 0, 0, 2, 0, 10), "of the",
)  # fmt: skip
QUIET = Excerpt("a horse", ("a", " horse"), (0, 0))
HIT = ProbePlan("see the zebra", "positive", "1", {"h1": "off", "h2": "off"})
PROBE = MeasuredProbe(
    "p1", HIT, Excerpt("see the zebra", ("see", " the", " zebra"), (0, 0, 7)), "on"
)
MISS = ProbePlan("see the horse", "positive", "2", {"h1": "on"})
OTHER = MeasuredProbe(
    "p2", MISS, Excerpt("see the horse", ("see", " the", " horse"), (0, 0, 0)), "off"
)
TABLE = EvidenceTable(
    latent=LatentId("layers.1", 7),
    round=2,
    clusters=(Cluster("c1", " zebra", 0.75, (TEXT, QUIET)), Cluster("c2", " horse", 0.25, (TEXT,))),
    inactive=(QUIET,),
    logit_lens=(" stripe", "s"),
    open=(
        Standing(ONE, "weak", 1.5, 6, 4, 5, 3, doubtful=True),
        Standing(TWO, "open", 3, 4, 4, 4, 2),
    ),
    settled=(Standing(DONE, "confirmed", 6, 6, 6, 6, 4),),
    probes=(PROBE,),
    discarded=("any animal",),
)
MISSES = [Misprediction("h1", "off", PROBE), Misprediction("h1", "on", OTHER, counted=False)]
GAPS = [
    Gap("uncovered_windows", "3 of 8 further active windows are not explained", excerpts=(TEXT,)),
    Gap("unexplained_probe", "2 probes measured on that nothing predicted", probes=(PROBE, OTHER)),
]
HYPOTHESIS: Body = {
    "text": "the word\n zebra", "label": "zebra", "trigger": "zebra", "scope": "",
    "exclusions": ["in names"], "level": 7, "relation": "coexists", "clusters": ["c1"],
}  # fmt: skip


def _probe(text: str, **fields: Any) -> Body:
    return {"text": text, "on": ["h1"], "off": [], "family": 1, "kind": "positive",
            "edited": None, **fields}  # fmt: skip


def _ask(
    folder: Path, work: Callable[[LLMRoles], Awaitable[T]], *answers: Any
) -> tuple[T | RoleFailure, list[Body], Cost]:
    """What the role made of the answers, given in turn; the requests' bodies; the cost."""
    bodies: list[Body] = []

    def answer(body: Body) -> Any:
        bodies.append(body)
        return answers[min(len(bodies), len(answers)) - 1]

    async def asked(llms: LLMs) -> tuple[T | RoleFailure, list[Body], Cost]:
        roles = LLMRoles(llms.clients["judge"], Templates(), TABLE.latent)
        with metered() as account:
            try:
                found: T | RoleFailure = await work(roles)
            except RoleFailure as failure:
                found = failure
        assert replace(roles.cost, seconds=0.0) == account.spent
        return found, bodies, roles.cost

    with LLMServer(answer=answer) as server:
        return run(server, folder, asked)


def test_hypotheses_come_without_ids_and_on_one_line(tmp_path: Path) -> None:
    reply = {"hypotheses": [HYPOTHESIS]}
    found, (body,), cost = _ask(tmp_path, lambda roles: roles.propose(TABLE), reply)
    assert found == [
        Hypothesis("the word zebra", "zebra", "zebra", "", ("in names",), 7, "coexists", ("c1",))
    ]
    assert cost.requests == 1
    assert cost.prompt_tokens > 0
    assert body["temperature"] == 0


def test_probe_texts_are_taken_exactly(tmp_path: Path) -> None:
    text = ' "quoted" «zebra»7\n\n\tif x:\\n 👩‍👩‍👧 '
    pair = {"text": text + "!", "on": [], "off": ["h1"]}
    reply = {"probes": [_probe(text, edited=pair, family=4)]}
    found, _, _ = _ask(tmp_path, lambda roles: roles.design(TABLE, [ONE, TWO]), reply)
    assert found == [
        ProbePlan(text, "positive", "4", {"h1": "on"}),
        ProbePlan(text + "!", "minimal_pair", "4", {"h1": "off"}, base=text),
    ]


def test_what_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    reply = {"probes": [_probe("a\0b \ud800 c")]}
    found, _, _ = _ask(tmp_path, lambda roles: roles.design(TABLE, [ONE]), reply)
    assert isinstance(found, list)
    assert found[0].text == "a␀b � c"


def test_an_unknown_hypothesis_is_asked_about_once_more(tmp_path: Path) -> None:
    wrong, right = {"probes": [_probe("x y", on=["h9"])]}, {"probes": [_probe("x y")]}
    found, bodies, cost = _ask(
        tmp_path, lambda roles: roles.design(TABLE, [ONE, TWO]), wrong, right
    )
    assert isinstance(found, list)
    assert found[0].predictions == {"h1": "on"}
    assert "there is no hypothesis 'h9' (there are: h1, h2)" in bodies[1]["messages"][-1]["content"]
    assert cost.requests == 2


def test_a_failure_is_told_paid_and_asked_otherwise_the_next_time(tmp_path: Path) -> None:
    async def twice(roles: LLMRoles) -> str:
        with pytest.raises(RoleFailure, match="no usable reply"):
            await roles.design(TABLE, [ONE])
        with pytest.raises(RoleFailure):
            await roles.design(TABLE, [ONE])
        return "failed"

    found, bodies, cost = _ask(tmp_path, twice, {"probes": [_probe("x", on=["h9"])]})
    assert found == "failed"
    assert cost.requests == 4
    seeds = [body["seed"] for body in bodies]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]


def test_revisions_name_open_hypotheses(tmp_path: Path) -> None:
    narrow = {"reason": "r", "action": "narrow", "targets": ["h1"], "hypotheses": [HYPOTHESIS]}
    reply = {"revisions": [narrow]}
    found, (body,), _ = _ask(tmp_path, lambda roles: roles.revise(TABLE, MISSES), reply)
    assert isinstance(found, list)
    (revision,) = found
    assert (revision.action, revision.targets) == ("narrow", ("h1",))
    prompt = body["messages"][-1]["content"]
    assert "p2 off: see the horse" in prompt  # shown although the table leaves it out
    assert "h1 predicted on, measured otherwise: (p2)" in prompt


def test_a_confirmed_hypothesis_is_revised_in_review_only(tmp_path: Path) -> None:
    drop = {"reason": "", "action": "drop", "targets": ["h3"], "hypotheses": []}
    reply = {"revisions": [drop]}
    found, _, _ = _ask(tmp_path, lambda roles: roles.review(TABLE, GAPS), reply)
    assert isinstance(found, list)
    failed, _, _ = _ask(tmp_path, lambda roles: roles.revise(TABLE, MISSES), reply)
    assert isinstance(failed, RoleFailure)


@pytest.mark.parametrize(
    ("action", "targets", "new"),
    [("narrow", 1, 0), ("narrow", 0, 1), ("split", 1, 1), ("merge", 2, 2), ("drop", 1, 1),
     ("keep", 0, 0), ("add", 1, 1), ("add", 0, 0)],
)  # fmt: skip
def test_inconsistent_revisions_are_refused(action: str, targets: int, new: int) -> None:
    one = {"reason": "", "action": action, "targets": ["h1", "h2"][:targets],
           "hypotheses": [HYPOTHESIS] * new}  # fmt: skip
    with pytest.raises(ValidationError, match=action):
        RevisionsReply.model_validate({"revisions": [one]}, context={"hypotheses": ["h1", "h2"]})


@pytest.mark.parametrize("text", ["", "word " * 200])
def test_texts_that_would_fill_prompts_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="text"):
        ProposeReply.model_validate({"hypotheses": [{**HYPOTHESIS, "text": text}]})


@given(st.text(), st.text())
def test_any_text_is_a_probe(text: str, edited: str) -> None:
    pair = {"text": edited, "on": [], "off": ["h1"]}
    reply = json.loads(json.dumps({"probes": [_probe(text, edited=pair)]}))
    plans = DesignReply.model_validate(reply, context={"hypotheses": ["h1"]}).plans()
    assert [plan.text for plan in plans] == [text, edited]


@pytest.mark.parametrize("reply", [ProposeReply, DesignReply, RevisionsReply])
def test_schemas_are_strict_and_plain(reply: type[ProposeReply]) -> None:
    schema = reply.model_json_schema()
    assert response_format(schema)["json_schema"]["strict"]
    assert not re.search(r"minLength|maxLength|pattern", json.dumps(schema))


def _values() -> dict[str, Any]:
    named, probes = missed(MISSES)
    return {**values(TABLE, probes), "missed": named, "gaps": GAPS}


@pytest.mark.parametrize("role", ["propose", "design", "revise", "review"])
def test_golden(role: str) -> None:
    check_golden(f"agent/{role}", Templates().render(f"agent/{role}", **_values()))


def test_prompts_share_their_beginnings() -> None:
    """All latents' of a role the system's turn; all roles' of a latent the evidence."""
    other = replace(TABLE, latent=LatentId("layers.1", 8), clusters=TABLE.clusters[:1], open=())
    templates = Templates()
    one = templates.render("agent/design", **_values())
    assert templates.render("agent/design", **values(other))[0] == one[0]
    evidence = templates.render("agent/propose", **_values())[1].content
    for role in ("design", "revise", "review"):
        assert templates.render(f"agent/{role}", **_values())[1].content.startswith(evidence)


WORDS = st.lists(st.tuples(st.sampled_from([" a", "b", " {{c}}", ",", " "]), st.integers(0, 10)))


@given(WORDS)
def test_marks_leave_the_text_as_it_is(pairs: list[tuple[str, int]]) -> None:
    tokens = tuple(token for token, _ in pairs[:MOST_TOKENS])
    levels = tuple(level for _, level in pairs[:MOST_TOKENS])
    shown = marked(Excerpt("".join(tokens), tokens, levels))
    assert re.sub(r"«(.+?)»\d+", r"\1", shown) == "".join(tokens)
    assert [int(n) for n in re.findall(r"»(\d+)", shown)] == [n for n in levels if n]


def test_long_texts_are_cut_around_the_peak() -> None:
    tokens = tuple(f" w{i}" for i in range(500))
    levels = tuple(9 if i == 300 else 0 for i in range(500))
    shown = marked(Excerpt("".join(tokens), tokens, levels, "before"))
    assert shown.startswith("… w256")
    assert "«w300»9" in shown
    assert shown.endswith("w319…")

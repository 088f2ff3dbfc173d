"""Whatever a role writes, what is measured and logged is sound."""

from __future__ import annotations

from agent_world import plan
from hypothesis import given
from hypothesis import strategies as st

from autointerp.explainers.agent.roles import Hypothesis
from autointerp.explainers.agent.screening import MOST_CHARACTERS, screen, unfit

TEXTS = st.text(st.characters(codec=None), max_size=30) | st.just("x" * (MOST_CHARACTERS + 1))
PREDICTIONS = st.dictionaries(
    st.sampled_from(["h1", "h2", "h3", "h9"]),
    st.sampled_from(["on", "off", "abstain", "maybe"]),
)
PLANS = st.lists(
    st.builds(
        lambda text, predictions, kind, base: plan(
            text, predictions, kind=kind, **({"base": base} if base else {})
        ),
        TEXTS,
        PREDICTIONS,
        st.sampled_from(["positive", "minimal_pair", "boundary", "haiku"]),
        st.none() | TEXTS,
    ),
    max_size=8,
)
OPEN = {
    "h1": Hypothesis("one", id="h1", relation="coexists"),
    "h2": Hypothesis("two", id="h2", relation="coexists"),
    "h3": Hypothesis("three", id="h3", relation="competes"),
}


@given(PLANS)
def test_what_is_kept_can_be_measured_and_predicts_something(plans: list) -> None:  # type: ignore[type-arg]
    screened = screen(plans, OPEN, {"measured before"}, 3)
    assert len(screened.plans) + len(screened.invalid) == len(plans)
    texts = [kept.text for kept in screened.plans]
    assert len(set(texts)) == len(texts)
    for kept in screened.plans:
        assert unfit(kept.text) is None
        assert kept.text != "measured before"
        assert kept.predictions.keys() <= OPEN.keys()
        assert set(kept.predictions.values()) & {"on", "off"}
        assert kept.family.startswith("r3.")
    for text, reason in screened.invalid:
        assert text.encode("utf-8") is not None
        assert reason


@given(PREDICTIONS)
def test_parts_abstain_where_another_part_predicts_on(predictions: dict[str, str]) -> None:
    for kept in screen([plan("text", predictions)], OPEN, (), 1).plans:
        said = [kept.predictions.get(name) for name in ("h1", "h2")]
        assert set(said) != {"on", "off"}
        if "h3" in predictions and predictions["h3"] in ("on", "off"):
            assert kept.predictions["h3"] == predictions["h3"]


def test_a_pair_joins_the_family_of_its_unedited_member() -> None:
    base = plan("the cat", {"h1": "on"}, family="frame")
    pair = plan("the dog", {"h1": "off"}, family="else", kind="minimal_pair", base="the cat")
    kept = screen([pair, base], OPEN, (), 2).plans
    assert {one.family for one in kept} == {"r2.frame"}

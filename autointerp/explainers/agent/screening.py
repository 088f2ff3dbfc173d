"""What a role writes is checked before it is measured: texts, kinds, predictions, repeats."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from autointerp.explainers.agent.roles import Hypothesis, Prediction, ProbeKind, ProbePlan

MOST_CHARACTERS = 2000
_KINDS = frozenset(get_args(ProbeKind))
_PREDICTIONS = frozenset(get_args(Prediction))


@dataclass(frozen=True)
class Screened:
    """The plans worth measuring, and why each of the others was left out, by its text."""

    plans: list[ProbePlan]
    invalid: list[tuple[str, str]]


def unfit(text: str) -> str | None:
    """Why a text cannot be measured, if it cannot."""
    if not text.strip():
        return "empty"
    if len(text) > MOST_CHARACTERS:
        return f"{len(text)} characters; {MOST_CHARACTERS} are allowed"
    if "\0" in text:
        return "holds a NUL"
    return None if text == printable(text) else "holds a lone surrogate"


def printable(text: str) -> str:
    """The text with lone surrogates, which no file can hold, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def screen(
    plans: Sequence[ProbePlan],
    hypotheses: Mapping[str, Hypothesis],
    measured: Collection[str],
    round_number: int,
) -> Screened:
    """Drop what cannot or need not be measured, and settle the predictions.

    ``hypotheses`` are the open ones by id, ``measured`` the texts of earlier probes. Families
    are the round's own: a name that comes again in a later round is another frame.
    """
    kept: dict[str, ProbePlan] = {}
    invalid: list[tuple[str, str]] = []
    for plan in plans:
        predictions = _settled(plan.predictions, hypotheses)
        reason = _objection(plan, predictions, kept.keys() | set(measured))
        if reason is not None:
            invalid.append((printable(plan.text), reason))
            continue
        family = f"r{round_number}.{printable(plan.family)}"
        kept[plan.text] = replace(plan, family=family, predictions=predictions)
    return Screened(_with_their_bases(kept), invalid)


def _objection(
    plan: ProbePlan, predictions: Mapping[str, Prediction], known: Collection[str]
) -> str | None:
    if plan.kind not in _KINDS:
        return f"unknown kind {plan.kind!r}"
    if plan.text in known:
        return "repeats an earlier probe"
    if plan.kind == "minimal_pair" and (plan.base is None or unfit(plan.base)):
        return "a minimal pair without its unedited member"
    if set(predictions.values()) <= {"abstain"}:
        return "predicts nothing of an open hypothesis"
    return unfit(plan.text)


def _settled(
    predictions: Mapping[str, Prediction], hypotheses: Mapping[str, Hypothesis]
) -> dict[str, Prediction]:
    """Of the open hypotheses only. One part of an either-or cannot rule out what another part
    predicts, so it abstains there."""
    known: dict[str, Prediction] = {
        name: predictions[name]
        for name in hypotheses
        if predictions.get(name) in _PREDICTIONS - {"abstain"}
    }
    parts = {name for name in known if hypotheses[name].relation == "coexists"}
    expecting = {name for name in parts if known[name] == "on"}
    for name in parts - expecting if expecting else ():
        known[name] = "abstain"
    return known


def _with_their_bases(kept: Mapping[str, ProbePlan]) -> list[ProbePlan]:
    """A minimal pair belongs to the family of its unedited member."""
    return [
        replace(plan, family=kept[plan.base].family)
        if plan.kind == "minimal_pair" and plan.base is not None and plan.base in kept
        else plan
        for plan in kept.values()
    ]

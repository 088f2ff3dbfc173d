"""What a language model answers as a role: typed, bounded, and turned into the loop's objects.

JSON schemas keep to what every server can enforce; what they leave out (lengths of texts, ids
that exist) is checked here, and a refusal's words are shown to the model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from autointerp.explainers.agent.roles import (
    Action,
    Hypothesis,
    Prediction,
    ProbePlan,
    Relation,
    Revision,
)
from autointerp.latents.scales import LEVELS

MOST_HYPOTHESES, MOST_PROBES, MOST_REVISIONS = 5, 40, 8
_NEW: dict[Action, tuple[int, int]] = {  # how many hypotheses an action writes, at least and most
    "narrow": (1, 1),
    "broaden": (1, 1),
    "merge": (1, 1),
    "split": (2, 4),
    "add": (1, 4),
    "drop": (0, 0),
    "keep": (0, 0),
}
_PLAIN = WithJsonSchema({"type": "string"})  # OpenAI's strict mode takes no lengths of strings


def _known(value: str, info: ValidationInfo) -> str:
    known: Collection[str] = (info.context or {}).get("hypotheses", ())
    if value not in known:
        raise ValueError(f"there is no hypothesis {value[:20]!r} (there are: {', '.join(known)})")
    return value


Text = Annotated[str, StringConstraints(min_length=1, max_length=600), _PLAIN]
Words = Annotated[str, StringConstraints(max_length=300), _PLAIN]
KnownId = Annotated[str, AfterValidator(_known)]


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HypothesisReply(_Reply):
    """One claim; the loop gives it its id."""

    text: Text
    label: Words
    trigger: Words
    scope: Words
    exclusions: list[Words] = Field(max_length=6)
    level: int = Field(ge=0, le=LEVELS)
    relation: Relation
    clusters: list[Words] = Field(max_length=8)

    def hypothesis(self) -> Hypothesis:
        return Hypothesis(
            text=" ".join(self.text.split()),
            label=" ".join(self.label.split()),
            trigger=self.trigger,
            scope=self.scope,
            exclusions=tuple(self.exclusions),
            level=self.level,
            relation=self.relation,
            clusters=tuple(self.clusters),
        )


class ProposeReply(_Reply):
    """The first hypotheses."""

    hypotheses: list[HypothesisReply] = Field(min_length=1, max_length=MOST_HYPOTHESES)


class _Predicted(_Reply):
    text: str
    on: list[KnownId] = Field(max_length=16)
    off: list[KnownId] = Field(max_length=16)

    @model_validator(mode="after")
    def _decided(self) -> _Predicted:
        if both := set(self.on) & set(self.off):
            raise ValueError(f"{min(both)} predicts a text both on and off")
        return self

    def predictions(self) -> dict[str, Prediction]:
        """By hypothesis; those in neither list abstain."""
        on: dict[str, Prediction] = dict.fromkeys(self.on, "on")
        return on | dict.fromkeys(self.off, "off")


class EditReply(_Predicted):
    """The edited member of a minimal pair."""


class ProbeReply(_Predicted):
    """A text to measure; with ``edited`` it is the unedited member of a minimal pair."""

    family: int
    kind: Literal["positive", "paraphrase", "boundary", "hard_negative", "discriminating"]
    edited: EditReply | None

    def plans(self) -> Iterator[ProbePlan]:
        family = str(self.family)
        yield ProbePlan(self.text, self.kind, family, self.predictions())
        if self.edited is not None:
            edited = self.edited
            predictions = edited.predictions()
            yield ProbePlan(edited.text, "minimal_pair", family, predictions, self.text)


class DesignReply(_Reply):
    """Probes for all open hypotheses."""

    probes: list[ProbeReply] = Field(min_length=1, max_length=MOST_PROBES)

    def plans(self) -> list[ProbePlan]:
        return [plan for probe in self.probes for plan in probe.plans()]


class RevisionReply(_Reply):
    """What becomes of some hypotheses."""

    reason: Words
    action: Action
    targets: list[KnownId] = Field(max_length=8)
    hypotheses: list[HypothesisReply] = Field(max_length=4)

    @model_validator(mode="after")
    def _consistent(self) -> RevisionReply:
        least, most = _NEW[self.action]
        if not least <= len(self.hypotheses) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            raise ValueError(f"{self.action} writes {count} hypotheses")
        if bool(self.targets) == (self.action == "add"):
            raise ValueError(f"{self.action} {'has no' if self.targets else 'needs'} targets")
        return self

    def revision(self) -> Revision:
        new = tuple(one.hypothesis() for one in self.hypotheses)
        return Revision(self.action, tuple(self.targets), new, self.reason)


class RevisionsReply(_Reply):
    """What becomes of the hypotheses; one that no revision names stays as it is."""

    revisions: list[RevisionReply] = Field(max_length=MOST_REVISIONS)

    def all(self) -> list[Revision]:
        return [one.revision() for one in self.revisions]

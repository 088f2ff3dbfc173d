"""The configuration of a run.

``RunConfig()`` is the embedded demo. A file stands on its own: what it leaves out has the
defaults of :mod:`autointerp.sections`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from autointerp.complaints import complaint, hint
from autointerp.kinds import (
    all_options,
    check_scorer,
    judge_options,
    resolve_cascade,
    resolve_kind,
)
from autointerp.latents import AutointerpError
from autointerp.latents.wanted import parse_latents
from autointerp.overrides import apply_overrides, read_tree
from autointerp.registry import Options, explainers, scorers
from autointerp.sections import (
    CASCADE,
    DEFAULT_EXPLAINER,
    DEFAULT_LATENTS,
    DEFAULT_SCORERS,
    DEMO_CODERS,
    EFFECTS,
    BudgetSection,
    CorpusSection,
    EmbedderSection,
    EngineSection,
    ExamplesSection,
    LLMSection,
    RunSection,
    Section,
    SubjectSection,
)
from autointerp.turns import check_turns

_PLACES = ("explainer", "effects", "scorers")  # of sections that name a kind


class RunConfig(Section):
    """Everything that decides what a run does."""

    run: RunSection = RunSection()
    subject: SubjectSection = SubjectSection()
    corpus: CorpusSection = CorpusSection()
    examples: ExamplesSection = ExamplesSection()
    latents: dict[str, str | list[int]] = Field(default_factory=dict)
    explainer: dict[str, Any] = Field(
        default_factory=lambda: {"kind": DEFAULT_EXPLAINER}, validate_default=True
    )
    scorers: list[dict[str, Any]] = Field(
        default_factory=lambda: [{"kind": kind} for kind in DEFAULT_SCORERS], validate_default=True
    )
    effects: dict[str, Any] = Field(
        default_factory=lambda: {"kind": EFFECTS}, validate_default=True
    )
    llms: dict[str, LLMSection] = Field(default_factory=dict)
    budget: BudgetSection = BudgetSection()
    journal: Path | None = None
    prompts: Path | None = None
    engine: EngineSection = EngineSection()
    embedder: EmbedderSection = EmbedderSection()

    @model_validator(mode="before")
    @classmethod
    def _some_of_every_coder(cls, tree: Any) -> Any:
        """Without ``latents``, every coder gets the default sample."""
        if not isinstance(tree, dict) or tree.get("latents"):
            return tree
        subject = tree.get("subject") or {}
        coders = subject.get("coders") if isinstance(subject, dict) else subject.coders
        names = coders if isinstance(coders, dict) and coders else DEMO_CODERS
        return {**tree, "latents": {str(name): DEFAULT_LATENTS for name in names}}

    @field_validator("explainer")
    @classmethod
    def _known_explainer(cls, section: dict[str, Any]) -> dict[str, Any]:
        if "tiers" in section or section.get("kind") == CASCADE:
            return resolve_cascade(section)
        return resolve_kind(explainers, section, "explainer")

    @field_validator("effects")
    @classmethod
    def _known_effects(cls, section: dict[str, Any]) -> dict[str, Any]:
        return resolve_kind(explainers, {"kind": EFFECTS, **section}, "effects", writes="output")

    @field_validator("scorers")
    @classmethod
    def _known_scorers(cls, sections: list[dict[str, Any]]) -> list[dict[str, Any]]:
        resolved = [resolve_kind(scorers, s, f"scorers.{i}") for i, s in enumerate(sections)]
        kinds = [section["kind"] for section in resolved]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise AutointerpError(f"scorers: {kind!r} is listed twice; a run has one of a kind")
        return resolved

    @field_validator("latents", mode="before")
    @classmethod
    def _names_are_text(cls, latents: Any) -> Any:
        """YAML reads ``5: "1,2"`` as a number's mapping, and ``x: 3`` as a number."""
        if not isinstance(latents, dict):
            return latents
        return {str(k): str(v) if isinstance(v, int) else v for k, v in latents.items()}

    @model_validator(mode="after")
    def _latents_have_coders(self) -> Self:
        for name, wanted in self.latents.items():
            if name not in self.subject.coders:
                raise AutointerpError(
                    f"latents.{name}: no such coder"
                    f"{hint(name, self.subject.coders)} (known: {', '.join(self.subject.coders)})"
                )
            parse_latents(wanted, f"latents.{name}")
        return self

    @model_validator(mode="after")
    def _language_models_are_named(self) -> Self:
        for where, options in self._all_options():
            if not options.asks:
                continue
            name = str(getattr(options, "llm", None))
            if name not in self.llms:
                raise AutointerpError(
                    f"{self._scorer_at(where)}{where} needs a language model; describe it under"
                    f" llms.{name}, as in llms.{name}.model=NAME"
                    f" llms.{name}.base_url=http://HOST:PORT/v1"
                )
            waves = self.llms[name].waves
            if options.echoes and waves is not None and waves.command:
                raise AutointerpError(
                    f"{where}.llm: the program in llms.{name}.batch.command does not tell how"
                    " likely texts are; name a server, or leave it out to ask the subject"
                )
        return self

    def _scorer_at(self, where: str) -> str:
        """The kind of a scorer at the head of a message, since its place is no more than a number;
        nothing of other places."""
        first, *rest = where.split(".")
        return f"{self.scorers[int(rest[0])]['kind']}: " if first == "scorers" else ""

    @model_validator(mode="after")
    def _waves_are_accepted(self) -> Self:
        if any(llm.waves for llm in self.llms.values()):
            check_turns(self._all_options(), self.llms)
        return self

    @model_validator(mode="after")
    def _judges_read_what_is_written(self) -> Self:
        for i, section in enumerate(self.scorers):
            reads = scorers.get(section["kind"]).implementation.reads
            writers = [self.effects] if reads == "output" else self.tiers
            check_scorer(section, writers, f"scorers.{i}")
        return self

    @property
    def tiers(self) -> list[dict[str, Any]]:
        """The resolved sections of a cascade's explainers; else the one of the only explainer."""
        tiers: list[dict[str, Any]] = self.explainer.get("tiers", [self.explainer])
        return tiers

    def needs(self, stage: Literal["explain", "score"]) -> frozenset[str]:
        """What the kinds of a stage, and their judges, need beside their options."""
        return frozenset().union(*(o.needs() for o in self._options_of(stage)))

    def llm_names(self, stage: Literal["explain", "score"]) -> list[str]:
        """The language models that a stage asks."""
        asking = [options for options in self._options_of(stage) if options.asks]
        return sorted({getattr(options, "llm", "") for options in asking})

    def in_waves(self, stage: Literal["explain", "score"]) -> bool:
        """Whether a stage asks a language model whose requests go out in waves."""
        return any(self.llms[name].waves for name in self.llm_names(stage))

    def in_flight(self, stage: Literal["explain", "score"]) -> int:
        """How many latents are begun at a time: in waves, up to as many as requests may wait."""
        waves = [waves for name in self.llm_names(stage) if (waves := self.llms[name].waves)]
        return max([self.engine.concurrency, *(one.in_flight for one in waves)])

    @property
    def writes_outputs(self) -> bool:
        """Whether a scorer reads explanations of what latents cause, so that some are made."""
        kinds = [scorers.get(section["kind"]) for section in self.scorers]
        return any(kind.implementation.reads == "output" for kind in kinds)

    def _options_of(self, stage: Literal["explain", "score"]) -> list[Options]:
        pairs = self._all_options()
        found = {name: [o for where, o in pairs if where.split(".")[0] == name] for name in _PLACES}
        if stage == "explain":
            return [*found["explainer"], *(found["effects"] if self.writes_outputs else [])]
        steer = any("effects" in options.needs() for options in found["scorers"])
        return [*found["scorers"], *(found["effects"] if steer else [])]

    def _all_options(self) -> list[tuple[str, Options]]:
        if self.explainer["kind"] == CASCADE:
            found = judge_options(self.explainer, "explainer")
            for i, tier in enumerate(self.tiers):
                found += all_options(explainers, tier, f"explainer.tiers.{i}")
        else:
            found = all_options(explainers, self.explainer, "explainer")
        scoring = []
        for i, section in enumerate(self.scorers):
            scoring += all_options(scorers, section, f"scorers.{i}")
        if self.writes_outputs or any("effects" in options.needs() for _, options in scoring):
            found += all_options(explainers, self.effects, "effects")
        return found + scoring

    def to_yaml(self) -> str:
        """The resolved file: reading it gives an equal configuration."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        return text


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a configuration file (the embedded demo if None) and apply the overrides.

    Raises:
        AutointerpError: one line naming the file or key, and the nearest known key.
    """
    tree = read_tree(path) if path is not None else {}
    apply_overrides(tree, overrides)
    return build_config(tree, str(path) if path is not None else "configuration")


def build_config(tree: Mapping[str, Any], where: str = "configuration") -> RunConfig:
    """Check a tree of plain values. Raises AutointerpError with one line."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise AutointerpError(f"{where}: {complaint(error, RunConfig)}") from error

"""Everything the agent has learned of a latent so far, and the bounded view that roles get."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autointerp.explainers.agent.belief import Belief, Counted, outcome
from autointerp.explainers.agent.exemplars import Exemplars
from autointerp.explainers.agent.roles import (
    Cluster,
    EvidenceTable,
    Excerpt,
    Hypothesis,
    MeasuredProbe,
    Misprediction,
    ProbePlan,
    Standing,
)
from autointerp.patterns.matching import core

PROBES_SHOWN, DISCARDED_SHOWN = 24, 12
Place = Literal["open", "settled", "gone"]


@dataclass
class Entry:
    """One hypothesis, where it stands, and the probes that count for or against it."""

    hypothesis: Hypothesis
    place: Place = "open"
    counted: list[Counted] = field(default_factory=list)
    replaces: tuple[str, ...] = ()  # confirmed hypotheses that go once this one is confirmed

    @property
    def belief(self) -> Belief:
        return Belief.of(self.counted)

    @property
    def standing(self) -> Standing:
        belief = self.belief
        return Standing(
            hypothesis=self.hypothesis,
            verdict=belief.verdict,
            hits=belief.hits.successes,
            on_families=belief.hits.families,
            rejections=belief.rejections.successes,
            off_families=belief.rejections.families,
            valid_pairs=belief.pairs,
            doubtful=belief.doubtful,
        )


class Ledger:
    """Hypotheses and probes of one latent. Nothing in it is ever re-counted for a new text."""

    def __init__(self, exemplars: Exemplars) -> None:
        self.exemplars = exemplars
        self.clusters: tuple[Cluster, ...] = exemplars.clusters()
        self.entries: dict[str, Entry] = {}
        self.probes: dict[str, MeasuredProbe] = {}  # by text
        self.missed: list[Misprediction] = []
        self._inactive = exemplars.inactive()
        self._topic = set(exemplars.topic())

    def add(self, hypothesis: Hypothesis, replaces: Sequence[str] = ()) -> Entry | None:
        """Take in a new hypothesis under an id of its own; None if its text was there before."""
        text = hypothesis.text.strip()
        if not text or any(text == e.hypothesis.text for e in self.entries.values()):
            return None
        known = {cluster.id for cluster in self.clusters}
        added = replace(
            hypothesis,
            id=f"h{len(self.entries) + 1}",
            text=text,
            clusters=tuple(dict.fromkeys(c for c in hypothesis.clusters if c in known)),
        )
        entry = self.entries[added.id] = Entry(added, replaces=tuple(replaces))
        return entry

    def settle(self, entry: Entry) -> None:
        """A hypothesis was confirmed: what it was to replace goes."""
        entry.place = "settled"
        for name in entry.replaces:
            self.entries[name].place = "gone"

    def at(self, place: Place) -> list[Entry]:
        """The hypotheses that are open, settled (confirmed) or gone, oldest first."""
        return [entry for entry in self.entries.values() if entry.place == place]

    def open(self) -> dict[str, Hypothesis]:
        return {entry.hypothesis.id: entry.hypothesis for entry in self.at("open")}

    def covered(self) -> set[str]:
        """Ids of the clusters that confirmed hypotheses claim."""
        return {cluster for e in self.at("settled") for cluster in e.hypothesis.clusters}

    def all_covered(self) -> bool:
        """Whether confirmed hypotheses claim every cluster."""
        return bool(self.at("settled")) and self.covered() >= {c.id for c in self.clusters}

    def record(
        self, plan: ProbePlan, tokens: Sequence[str], activations: NDArray[np.float32]
    ) -> MeasuredProbe:
        """Keep a measured probe; it counts only once :meth:`count` is told to."""
        scale = self.exemplars.scale
        excerpt = Excerpt(plan.text, tuple(tokens), scale.levels(activations))
        reading = scale.reading(float(activations.max()))
        probe = MeasuredProbe(f"p{len(self.probes) + 1}", plan, excerpt, reading)
        self.probes[plan.text] = probe
        if reading == "on":
            self._topic.add(core(tokens[int(activations.argmax())]))
        return probe

    def count(self, probes: Iterable[MeasuredProbe]) -> None:
        """Enter what these probes say of the hypotheses that had predicted them."""
        for probe in probes:
            for name, predicted in probe.plan.predictions.items():
                if predicted == "abstain":
                    continue
                informative = predicted == "on" or self.informative(probe)
                value = outcome(predicted, probe.reading)
                if informative:
                    pair = predicted == "off" and probe.plan.kind == "minimal_pair"
                    counted = Counted(predicted, probe.plan.family, value, pair)
                    self.entries[name].counted.append(counted)
                if value < 1:
                    self.missed.append(Misprediction(name, predicted, probe, informative))

    def informative(self, probe: MeasuredProbe) -> bool:
        """Whether a rejection of this probe says anything: a latent is off on almost any text."""
        if probe.plan.kind == "minimal_pair":
            base = self.probes.get(probe.plan.base or "")
            return base is not None and base.reading == "on"
        return any(core(token) in self._topic for token in probe.excerpt.tokens)

    def missed_by(self, names: Iterable[str]) -> list[Misprediction]:
        wanted = set(names)
        return [miss for miss in self.missed if miss.hypothesis in wanted]

    def table(self, round_number: int) -> EvidenceTable:
        """What a role is shown now."""
        gone = [entry.hypothesis.text for entry in self.at("gone")]
        return EvidenceTable(
            latent=self.exemplars.latent,
            round=round_number,
            clusters=self.clusters,
            inactive=self._inactive,
            logit_lens=tuple(self.exemplars.shown.logit_lens[:10]),
            open=tuple(entry.standing for entry in self.at("open")),
            settled=tuple(entry.standing for entry in self.at("settled")),
            probes=tuple(self._telling()),
            discarded=tuple(gone[-DISCARDED_SHOWN:]),
        )

    def _telling(self) -> list[MeasuredProbe]:
        """The mispredicted and the latest probes, in the order they were measured."""
        told = [miss.probe.id for miss in self.missed[::-1]]
        latest = [probe.id for probe in reversed(self.probes.values())]
        chosen = set(list(dict.fromkeys(told))[: PROBES_SHOWN // 2])
        chosen |= set([name for name in latest if name not in chosen][: PROBES_SHOWN - len(chosen)])
        return [probe for probe in self.probes.values() if probe.id in chosen]

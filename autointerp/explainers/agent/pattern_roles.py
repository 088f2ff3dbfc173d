"""The four roles without a language model: hypotheses are patterns, probes substituted tokens.

Proposals are learned from contrasts of EXPLAIN windows; predictions are the pattern run on the
probe's text; a hypothesis that tests speak against is narrowed or broadened by the change that
best fits the windows and every probe measured so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from autointerp.explainers.agent.drafting import Draft, Drafter
from autointerp.explainers.agent.edits import improved
from autointerp.explainers.agent.exemplars import Exemplars, peak_token
from autointerp.explainers.agent.reading import Trials
from autointerp.explainers.agent.roles import (
    EvidenceTable,
    Excerpt,
    Gap,
    Hypothesis,
    MeasuredProbe,
    Misprediction,
    Prediction,
    ProbePlan,
    Revision,
)
from autointerp.explainers.pattern import PatternExplainer
from autointerp.latents import Cost, LabelledSet
from autointerp.patterns import Clause, Pattern, Token, parse
from autointerp.patterns.reading import Reader, whole
from autointerp.patterns.writing import Writer
from autointerp.statistics import derived_generator

MOST_CLAUSES = 3  # hypotheses of one clause; further clauses share one
NEW_FAMILIES, MORE_FAMILIES = 6, 4  # for a hypothesis without probes, and for one with some
CLAIMED = 0.5  # share of a cluster's excerpts that a pattern must match in


class PatternRoles:
    """Roles of one latent. ``learner`` may serve many latents; it keeps the background's bits."""

    def __init__(
        self, exemplars: Exemplars, reader: Reader, learner: PatternExplainer, seed: int
    ) -> None:
        self.exemplars, self.reader, self.learner, self.seed = exemplars, reader, learner, seed
        self.evidence = exemplars.shown
        firing = Counter(
            example.vocabulary[i]
            for example in exemplars.distinct
            for i in example.token_ids[example.activations > 0].tolist()
        )
        seen = [text for text, _ in firing.most_common()]
        quiet = np.flatnonzero(self.evidence.background_maxima <= 0)
        writer = Writer(reader, exemplars.join, self.evidence.background, quiet, seen)
        self.drafter = Drafter(writer, exemplars)
        self._windows = {tuple(e.tokens): e for e in exemplars.distinct}
        self._met: dict[str, MeasuredProbe] = {}

    @property
    def cost(self) -> Cost:
        """Nothing: no request is ever sent."""
        return Cost()

    async def propose(self, table: EvidenceTable) -> list[Hypothesis]:
        """The learned pattern's clauses, those that match in most windows first."""
        nothing = LabelledSet(table.latent, "select", [], {}, None, 0)
        pattern = self.learner.learn(self.evidence, nothing).pattern
        trials = self._trials(())
        ranked = sorted(
            pattern.clauses, key=lambda c: -int(trials.hits(Pattern((c,)))[trials.positive].sum())
        )
        parts: list[tuple[Clause, ...]] = [(clause,) for clause in ranked[:MOST_CLAUSES]]
        parts += [tuple(ranked[MOST_CLAUSES:])] if len(ranked) > MOST_CLAUSES else []
        return [self._hypothesis(Pattern(clauses), table) for clauses in parts]

    async def design(
        self, table: EvidenceTable, hypotheses: Sequence[Hypothesis]
    ) -> list[ProbePlan]:
        """Families of a text on which a pattern holds and its minimal pair, then boundary probes
        and hard negatives."""
        patterns = {h.id: parse(h.text) for h in hypotheses}
        settled = [parse(s.hypothesis.text) for s in table.settled]
        tried = {s.hypothesis.id for s in table.open if s.on_families}
        drafts: list[Draft] = []
        for name, pattern in patterns.items():
            rng = derived_generator(self.seed, table.latent, "design", table.round, name)
            families = MORE_FAMILIES if name in tried else NEW_FAMILIES
            drafts += self.drafter.families(name, pattern, rng, families)
            drafts += self.drafter.boundaries(name, pattern, rng)
        texts = [draft.text for draft in drafts]
        expected = {name: self.reader.holds(p, texts) for name, p in patterns.items()}
        explained = [self.reader.holds(p, texts) for p in settled]
        return [
            draft.plan(
                {
                    name: _prediction(holds[i], any(others[i] for others in explained))
                    for name, holds in expected.items()
                }
            )
            for i, draft in enumerate(drafts)
        ]

    async def revise(
        self, table: EvidenceTable, mispredictions: Sequence[Misprediction]
    ) -> list[Revision]:
        """The change of each doubtful pattern that fits everything known best, if one helps."""
        doubtful = [s for s in table.open if s.doubtful]
        known = self._known(table)
        missed = [miss.probe for miss in mispredictions]
        revisions = []
        trials = self._trials(self._probes([*table.probes, *missed]))
        for standing in doubtful:
            target = standing.hypothesis
            edit = improved(parse(target.text), trials, known, self._peaks(missed))
            if edit is None:
                refuted = standing.verdict == "refuted"
                revisions.append(Revision("drop" if refuted else "keep", (target.id,)))
                continue
            known.add(str(edit.pattern))
            new = (self._hypothesis(edit.pattern, table),)
            revisions.append(Revision(edit.direction, (target.id,), new))
        return revisions

    async def review(self, table: EvidenceTable, gaps: Sequence[Gap]) -> list[Revision]:
        """A pattern for what is not explained, learned from where those texts peak."""
        excerpts = [excerpt for gap in gaps for excerpt in self._excerpts(table, gap)]
        peaks = list(dict.fromkeys(_peak(excerpt) for excerpt in excerpts))
        known = self._known(table)
        settled = Pattern(tuple(c for s in table.settled for c in parse(s.hypothesis.text).clauses))
        trials = self._trials(self._probes(table.probes)).without(settled)
        added = []
        for text in peaks[:MOST_CLAUSES]:
            pattern = Pattern((Clause((Token(text),)),))
            edit = improved(pattern, trials, known, peaks)
            pattern = edit.pattern if edit else pattern
            if str(pattern) not in known:
                known.add(str(pattern))
                added.append(self._hypothesis(pattern, table))
        return [Revision("add", (), tuple(added))] if added else []

    def _excerpts(self, table: EvidenceTable, gap: Gap) -> list[Excerpt]:
        wanted = [e for c in table.clusters if c.id in gap.clusters for e in c.excerpts]
        return [*wanted, *gap.excerpts, *(probe.excerpt for probe in gap.probes)]

    def _known(self, table: EvidenceTable) -> set[str]:
        standings = [*table.open, *table.settled]
        return {s.hypothesis.text for s in standings} | set(table.discarded)

    def _trials(self, probes: Sequence[MeasuredProbe]) -> Trials:
        return Trials(self.reader, self.evidence, self.exemplars.distinct, probes)

    def _probes(self, probes: Iterable[MeasuredProbe]) -> list[MeasuredProbe]:
        """Every probe met so far, each once: a table shows only some."""
        self._met.update({probe.id: probe for probe in probes})
        return list(self._met.values())

    def _peaks(self, probes: Sequence[MeasuredProbe]) -> list[str]:
        """Tokens at which the latent fires in probes nobody expected it to, then in windows."""
        surprising = [_peak(probe.excerpt) for probe in probes if probe.reading == "on"]
        return list(dict.fromkeys([*surprising, *map(peak_token, self.exemplars.distinct)]))[:24]

    def _hypothesis(self, pattern: Pattern, table: EvidenceTable) -> Hypothesis:
        text = str(pattern)
        return Hypothesis(
            text=text,
            label=text,
            trigger=", ".join(str(atom) for c in pattern.clauses for atom in c.match),
            scope=", ".join(str(c) for clause in pattern.clauses for c in clause.conditions),
            exclusions=tuple(str(c) for clause in pattern.clauses for c in clause.exceptions),
            relation="coexists",
            clusters=tuple(c.id for c in table.clusters if self._claims(pattern, c.excerpts)),
        )

    def _claims(self, pattern: Pattern, excerpts: Sequence[Excerpt]) -> bool:
        windows = [self._windows[excerpt.tokens] for excerpt in excerpts]
        found = sum(bool(self.reader.where(pattern, whole(window))) for window in windows)
        return found >= CLAIMED * len(windows)


def _prediction(holds: bool, explained: bool) -> Prediction:
    """What a confirmed part of an either-or explains says nothing of the other parts."""
    if holds:
        return "on"
    return "abstain" if explained else "off"


def _peak(excerpt: Excerpt) -> str:
    return excerpt.tokens[max(range(len(excerpt.levels)), key=excerpt.levels.__getitem__)]

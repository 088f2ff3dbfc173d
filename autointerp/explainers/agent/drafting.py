"""Which probes test a pattern: families of a text and its minimal pair, and what lies near."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from autointerp.explainers.agent.exemplars import Exemplars
from autointerp.explainers.agent.roles import Prediction, ProbeKind, ProbePlan
from autointerp.patterns import Clause, Pattern
from autointerp.patterns.reading import whole
from autointerp.patterns.writing import Rng, Writer, Written, cycled

BASES = 3  # texts tried for one minimal pair
BARE, MATCHED = 2, 2  # boundary probes and hard negatives a hypothesis and round


@dataclass(frozen=True)
class Draft:
    """A probe before its predictions."""

    text: str
    kind: ProbeKind
    family: str
    base: str | None = None

    def plan(self, predictions: Mapping[str, Prediction]) -> ProbePlan:
        return ProbePlan(self.text, self.kind, self.family, predictions, self.base)


@dataclass(frozen=True)
class _Pair:
    kind: ProbeKind  # of the base
    base: Written
    edited: Written | None


class Drafter:
    """Drafts probes for one latent's patterns; ``name`` begins the names of their families."""

    def __init__(self, writer: Writer, exemplars: Exemplars) -> None:
        self.writer, self.exemplars = writer, exemplars

    def families(self, name: str, pattern: Pattern, rng: Rng, count: int) -> Iterator[Draft]:
        """Each a text on which the pattern holds, by turns spliced and natural, and its pair."""
        clauses = cycled(pattern.clauses, rng)
        natural = self._natural(pattern, rng)
        for turn in range(count):
            found = self._pair(pattern, clauses, natural if turn % 3 == 2 else iter(()), rng, turn)
            found = found or self._pair(pattern, clauses, natural, rng, turn)
            if found is None:
                return
            family = f"{name}.{turn}"
            yield Draft(found.base.text, found.kind, family)
            if found.edited is not None:
                yield Draft(found.edited.text, "minimal_pair", family, found.base.text)

    def _pair(
        self, pattern: Pattern, clauses: Iterator[Clause], natural: Iterator[Written], rng: Rng,
        turn: int,
    ) -> _Pair | None:  # fmt: skip
        """A text on which the pattern holds, natural while there are any, with an edited one of
        which it does not: some texts match twice, and have none."""
        pair = None
        for _ in range(BASES):
            base = next(natural, None)
            kind: ProbeKind = "paraphrase" if base else "positive"
            base = base or self.writer.spliced(pattern, next(clauses), rng)
            if base is None:
                continue
            pair = _Pair(kind, base, self.writer.edited(pattern, base, rng, turn))
            if pair.edited is not None:
                break
        return pair

    def _natural(self, pattern: Pattern, rng: Rng) -> Iterator[Written]:
        examples = self.exemplars.distinct
        for place in rng.permutation(len(examples)).tolist():
            example = examples[place]
            start = len(example.left_ids)
            written = self.writer.natural(pattern, whole(example), start, rng)
            if written is not None:
                yield written

    def boundaries(self, name: str, pattern: Pattern, rng: Rng) -> Iterator[Draft]:
        """The tokens without their context, and real windows in which the latent is silent."""
        conditioned = [c for c in pattern.clauses if c.conditions or c.exceptions]
        for turn, clause in enumerate(islice(cycled(conditioned, rng), BARE if conditioned else 0)):
            bare = self.writer.bare(pattern, clause, rng)
            if bare is not None:
                yield Draft(bare.text, "boundary", f"{name}.bare{turn}")
        silent = self.exemplars.shown.token_matched
        atoms = Pattern(tuple(Clause(clause.match) for clause in pattern.clauses))
        for place in rng.permutation(len(silent)).tolist()[:MATCHED]:
            text = self.writer.around(atoms, silent[place], rng)
            if text is not None:
                yield Draft(text, "hard_negative", f"{name}.silent{place}")

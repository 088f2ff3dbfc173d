"""From what a sample of latents would cost to what all of a run costs, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import sqrt
from typing import Literal, get_args

from autointerp.config import RunConfig
from autointerp.latents import Cost, LatentId
from autointerp.llm.rehearsal import FEWEST_KNOWN, Model
from autointerp.pipeline.controls import LIMIT
from autointerp.pipeline.repeats import REPEAT
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import TRUE, Scored
from autointerp.pipeline.standings import SELECT
from autointerp.sections import CASCADE

WIDEST = 0.2  # of the middle: an interval goes no further to either side
NARROWEST = 0.03
COUNTED, GUESSED = 0.02, 0.1  # how far counts of tokens are off: by a tokenizer or replies, or not

Interval = list[float]  # low, middle, high
Stage = Literal["explained", "scored"]


@dataclass(frozen=True)
class Part:
    """One kind of requests: whose sample tells of it, which explainer or scorer asks them, what
    each sampled latent costs, and how many of the run's one of them stands for."""

    stage: Stage
    kind: str
    stands_for: float
    costs: dict[LatentId, Cost] = field(default_factory=lambda: defaultdict(Cost))

    def add(self, latent: LatentId, cost: Cost) -> None:
        self.costs[latent] = Cost(*(getattr(self.costs[latent], f.name) + getattr(cost, f.name)
                                    for f in fields(Cost)))  # fmt: skip

    def total(self, quantity: str) -> float:
        """Of all latents of the run."""
        return self.stands_for * float(sum(getattr(c, quantity) for c in self.costs.values()))


@dataclass(frozen=True)
class Sample:
    """The latents whose explaining tells what it costs, and those whose scoring does; the run is
    about ``planned`` latents."""

    explained: Sequence[LatentId]
    scored: Sequence[LatentId]
    planned: int

    def each(self, stage: Stage) -> float:
        """How many of the run's latents one of the sample stands for."""
        return self.planned / max(1, len(getattr(self, stage)))


def parts_of(results: Results, config: RunConfig, sample: Sample) -> dict[str, Part]:
    """The costs of a sample's explanations and scores, by what they are for; ``results`` may have
    more than the sample's."""
    explained, scored = set(sample.explained), set(sample.scored)
    parts: dict[str, Part] = {}
    texts = 0
    for e in results.explanations():
        is_own = e.explainer == config.explainer["kind"]
        texts += is_own and e.status == "explained" and e.latent in scored
        if e.explainer != CASCADE and e.latent in explained:  # that is paid for as its tiers'
            new = Part("explained", e.explainer, sample.each("explained"))
            parts.setdefault(f"explain: {e.explainer}", new).add(e.latent, e.cost)
    for s in results.scores():
        name, part = _scored_as(s, config, sample, texts)
        if s.score.latent in (explained if part.stage == "explained" else scored):
            parts.setdefault(name, part).add(s.score.latent, s.score.cost)
    return parts


def _scored_as(s: Scored, config: RunConfig, sample: Sample, texts: int) -> tuple[str, Part]:
    """What a score's requests are for; ``texts`` are the explained latents of the sample."""
    scorer, each = s.score.scorer, sample.each("scored")
    if scorer == SELECT:
        return f"select: {CASCADE}", Part("explained", scorer, sample.each("explained"))
    if s.control == TRUE:
        return f"score: {scorer}", Part("scored", scorer, each)
    if s.control == REPEAT:
        again = _repeated(config, scorer, texts, each)
        return f"score: {scorer} again", Part("scored", scorer, again)
    controlled = min(LIMIT, round(texts * each)) / max(1, min(LIMIT, texts))
    return f"score: {scorer} controls", Part("scored", scorer, controlled)


def _repeated(config: RunConfig, scorer: str, texts: int, each: float) -> float:
    """What a latent that is asked about again stands for."""
    section = next(s for s in config.scorers if s["kind"] == scorer)
    wanted = int((section.get("judge") or {}).get("repeats", 0))
    return min(wanted, texts * each) / max(1, min(wanted, texts))


@dataclass(frozen=True)
class Totals:
    """What all of a run costs, of all latents and requests, with an interval for each quantity."""

    parts: Mapping[str, Part]
    models: Mapping[str, Model]
    sample: Sample

    def interval(self, quantity: str) -> Interval:
        """Low, middle and high: what the sample does not tell, and how tokens are guessed."""
        middle = sum(self.by_part(quantity).values())
        off = self.sampling_error(quantity) if middle else 0.0
        if quantity != "requests":
            off = sqrt(off**2 + self._guess() ** 2)
        share = min(WIDEST, max(NARROWEST, off))
        return [middle * (1 - share), middle, middle * (1 + share)]

    def by_part(self, quantity: str) -> dict[str, float]:
        """What is to be paid for, by what it is for."""
        return {name: sum(self._of(part, quantity).values()) for name, part in self.parts.items()}

    def by_model(self, quantity: str) -> dict[str, float]:
        """The same by language model."""
        found = dict.fromkeys(self.models, 0.0)
        for part in self.parts.values():
            for name, value in self._of(part, quantity).items():
                found[name] += value
        return found

    def _of(self, part: Part, quantity: str) -> dict[str, float]:
        """By model: shares as of all that its kind of explainer or scorer asked in the rehearsal,
        less what other runs have paid for, and what is asked a second time."""
        kind, nothing = part.kind, Cost()
        models = {name: model for name, model in self.models.items() if kind in model.asked}
        whole = sum(getattr(model.asked[kind], quantity) for model in models.values())
        return {
            name: part.total(quantity) * getattr(model.paid.get(kind, nothing), quantity) / whole
            for name, model in models.items()
            if whole
        }

    def sampling_error(self, quantity: str) -> float:
        """Half the 95 % interval of the total, as a share of it."""
        whole = sum(part.total(quantity) for part in self.parts.values())
        if not whole:
            return 0.0
        return sqrt(sum(self._error(of, quantity) ** 2 for of in get_args(Stage))) / whole

    def _error(self, stage: Stage, quantity: str) -> float:
        """Half the 95 % interval of what one stage costs."""
        from scipy.stats import t

        latents, planned = getattr(self.sample, stage), self.sample.planned
        values = dict.fromkeys(latents, 0.0)
        for part in self.parts.values():
            for latent, cost in part.costs.items():
                if part.stage == stage:
                    values[latent] += part.stands_for * getattr(cost, quantity)
        n, whole = len(values), sum(values.values())
        if n >= planned or not whole:
            return 0.0
        if n < 2:
            return whole
        variance = sum((v - whole / n) ** 2 for v in values.values()) / (n - 1)
        return float(t.ppf(0.975, n - 1)) * sqrt(n * variance * (1 - n / planned))

    def guess(self, name: str) -> float:
        """How far the counts of a model's tokens may be off, as a share."""
        model = self.models[name]
        return COUNTED if model.counter.exact or model.known >= FEWEST_KNOWN else GUESSED

    def _guess(self) -> float:
        asked = (name for name, model in self.models.items() if model.asked)
        return max(map(self.guess, asked), default=0.0)

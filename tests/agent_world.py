"""A toy subject for the agent: words, latents whose truth is a pattern, roles that follow a script.

A latent is active at exactly the tokens where its pattern matches, with activation 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autointerp.explainers.agent.desk import Caps
from autointerp.explainers.agent.exemplars import Exemplars
from autointerp.explainers.agent.loop import Agent, Result
from autointerp.explainers.agent.publishing import joined
from autointerp.explainers.agent.roles import (
    EvidenceTable,
    Gap,
    Hypothesis,
    Misprediction,
    ProbePlan,
    Revision,
    RoleFailure,
)
from autointerp.latents import (
    AutointerpError,
    Background,
    Cost,
    Evidence,
    ExampleBlock,
    Item,
    LabelledSet,
    LatentId,
    Statistics,
)
from autointerp.patterns import Lexicon, Pattern, Windows, matches, parse

NAMES = "ant bee cat dog elk fox gnu hen ibis jay kid lynx mole newt owl pig ram sow toad vole"
COMMON = "the a of and to in is was it that he she on at by"
VOCABULARY = ["<unk>", *NAMES.split(), *COMMON.split()]
LATENT = LatentId("toy", 0)
WINDOW, LEFT = 16, 8


class UnmeasurableError(AutointerpError):
    """The toy subject's way to refuse a text."""


def encode(text: str) -> list[int]:
    known = {word: i for i, word in enumerate(VOCABULARY)}
    return [known.get(word, 0) for word in text.split()]


def block(truth: Pattern, seed: int, n: int, latent: LatentId = LATENT) -> ExampleBlock:
    """Windows of random words, and where the truth matches in them."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, len(VOCABULARY), (n, LEFT + WINDOW)).astype(np.int32)
    left, tokens = ids[:, :LEFT], ids[:, LEFT:]
    active = Windows(Lexicon(VOCABULARY), tokens, left).matches(truth).astype(np.float32)
    where = np.arange(n, dtype=np.int64)
    return ExampleBlock(latent, where, where * 0, tokens, active, left, VOCABULARY)


def evidence(truth: Pattern, latent: LatentId = LATENT, n: int = 500) -> Evidence:
    examples = block(truth, 1, n, latent).examples()
    active = [e for e in examples if e.maximum > 0]
    peaks = {e.tokens[int(e.activations.argmax())] for e in active}
    silent = [e for e in examples if e.maximum == 0 and peaks & set(e.tokens)]
    rest = block(truth, 2, n, latent)
    background = Background(rest.documents, rest.starts, rest.token_ids, rest.left_ids, VOCABULARY)
    firing = int(sum(np.count_nonzero(e.activations) for e in active))
    statistics = Statistics(firing, 0.1, 1.0, 1.0, np.ones(11, np.float32), [])
    return Evidence(
        latent, statistics, active[:20], active[:60], silent[:20], background,
        rest.activations.max(axis=1), [],
    )  # fmt: skip


def selection(truth: Pattern, latent: LatentId = LATENT) -> LabelledSet:
    examples = block(truth, 3, 300, latent).examples()
    active = [Item(e, True, "activating", 0) for e in examples if e.maximum > 0][:30]
    silent = [Item(e, False, "random") for e in examples if e.maximum == 0][:30]
    return LabelledSet(latent, "select", [*active, *silent], {}, None, 0)


@dataclass(frozen=True)
class Measurement:
    tokens: list[str]
    activations: NDArray[np.float32]


@dataclass
class ToySubject:
    """Measures texts by a latent's truth; refuses those that ``refuses`` says."""

    truths: dict[LatentId, Pattern]
    refuses: Callable[[str], bool] = lambda text: False
    measured: list[str] = field(default_factory=list)

    async def measure(self, texts: Sequence[str], latent: LatentId) -> list[Measurement]:
        self.measured += texts
        for text in texts:
            if self.refuses(text):
                raise UnmeasurableError("too long for the context")
        return [self._one(text, self.truths[latent]) for text in texts]

    def _one(self, text: str, truth: Pattern) -> Measurement:
        tokens = text.split()
        return Measurement(tokens, np.array(matches(truth, tokens), np.float32))


def plan(text: str, predictions: dict[str, str], **fields: str) -> ProbePlan:
    """A probe whose family is its own unless said."""
    kind = fields.get("kind", "positive")
    return ProbePlan(text, kind, fields.get("family", text), predictions, fields.get("base"))  # type: ignore[arg-type]


@dataclass
class Script:
    """Roles that answer from functions; None stands for a failing call."""

    propose_with: Callable[[EvidenceTable], Iterable[Hypothesis] | None]
    design_with: Callable[[EvidenceTable, Sequence[Hypothesis]], Iterable[ProbePlan] | None] = (
        lambda table, hypotheses: []
    )
    revise_with: Callable[[EvidenceTable, Sequence[Misprediction]], Iterable[Revision] | None] = (
        lambda table, missed: []
    )
    review_with: Callable[[EvidenceTable, Sequence[Gap]], Iterable[Revision] | None] = (
        lambda table, gaps: []
    )
    prompt_tokens: int = 0  # of every call
    calls: list[str] = field(default_factory=list)

    @property
    def cost(self) -> Cost:
        count = len(self.calls)
        return Cost(requests=count, prompt_tokens=self.prompt_tokens * count)

    def _answer(self, role: str, answer: Iterable[object] | None) -> list[object]:
        self.calls.append(role)
        if answer is None:
            raise RoleFailure(f"{role} made no sense")
        return list(answer)

    async def propose(self, table: EvidenceTable) -> list[Hypothesis]:
        return self._answer("propose", self.propose_with(table))  # type: ignore[return-value]

    async def design(
        self, table: EvidenceTable, hypotheses: Sequence[Hypothesis]
    ) -> list[ProbePlan]:
        return self._answer("design", self.design_with(table, hypotheses))  # type: ignore[return-value]

    async def revise(
        self, table: EvidenceTable, mispredictions: Sequence[Misprediction]
    ) -> list[Revision]:
        return self._answer("revise", self.revise_with(table, mispredictions))  # type: ignore[return-value]

    async def review(self, table: EvidenceTable, gaps: Sequence[Gap]) -> list[Revision]:
        return self._answer("review", self.review_with(table, gaps))  # type: ignore[return-value]


def words_around(trigger: str, count: int, start: int = 0) -> list[str]:
    """Different texts with the trigger in the middle of common words."""
    common = COMMON.split()
    rng = np.random.default_rng(start)
    texts = []
    for _ in range(count):
        words = [common[i] for i in rng.integers(0, len(common), 8)]
        texts.append(" ".join([*words[:5], trigger, *words[5:]]))
    return texts


def honest_design(trigger: str, other: str = "mole") -> Callable[..., list[ProbePlan]]:
    """Six texts with the trigger, each with a minimal pair that has another word instead."""

    def design(table: EvidenceTable, hypotheses: Sequence[Hypothesis]) -> list[ProbePlan]:
        name = hypotheses[0].id
        plans = []
        for text in words_around(trigger, 6, table.round):
            edited = text.replace(f" {trigger} ", f" {other} ")
            plans.append(plan(text, {name: "on"}, family=text))
            plans.append(plan(edited, {name: "off"}, family=text, kind="minimal_pair", base=text))
        return plans

    return design


TRUTH = parse('"cat"')
CAT = Hypothesis("the word cat", clusters=("c1",))


def search(
    roles: Script, subject: ToySubject | None = None, truth: Pattern = TRUTH,
    judged_after: Iterable[float] = (), **caps: float,
) -> Result:  # fmt: skip
    """The loop with scripted roles. ``judged_after``: seconds the judge takes for first answers."""
    exemplars = Exemplars.of(evidence(truth), encode, 0)
    assert exemplars is not None
    held_back = exemplars.held_back
    delays = iter(judged_after)

    async def covered(text: str) -> Sequence[bool]:
        await asyncio.sleep(next(delays, 0))
        return [any(matches(truth, e.tokens)) for e in held_back]

    agent = Agent(
        roles, subject or ToySubject({LATENT: truth}), exemplars, Caps(**caps),
        refused=UnmeasurableError, covered=covered, join=joined,
    )  # fmt: skip
    return asyncio.run(agent.run())


def events_of(result: Result, name: str) -> list[dict[str, object]]:
    return [event for event in result.events if event["event"] == name]


def always(*hypotheses: Hypothesis) -> Callable[[EvidenceTable], Iterable[Hypothesis]]:
    return lambda table: hypotheses

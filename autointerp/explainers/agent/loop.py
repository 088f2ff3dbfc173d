"""The agent's cycle: propose, design, measure, adjudicate, revise, review, stop.

Roles write; the loop measures, counts and decides. Every way out leaves a result with its
reason, and given the same replies and measurements the same result.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from autointerp.explainers.agent.belief import Belief
from autointerp.explainers.agent.desk import Caps, Desk, Event, Failed, Stop
from autointerp.explainers.agent.exemplars import Exemplars
from autointerp.explainers.agent.gaps import gaps, window_gap
from autointerp.explainers.agent.ledger import Entry, Ledger
from autointerp.explainers.agent.measuring import Bench, Measure
from autointerp.explainers.agent.roles import Gap, Hypothesis, Revision, Roles
from autointerp.explainers.agent.screening import printable, screen

STILL_ROUNDS, STILL = 2, 0.02  # rounds in which no posterior mean moves by so much end it
MOST_REVIEWS = 2
MOST_OPEN = 8
ALL_COVERED = "all clusters are covered by confirmed hypotheses"

Covered = Callable[[str], Awaitable[Sequence[bool]]]


@dataclass(frozen=True)
class Result:
    """How the search ended: ``stopped`` says why; ``failed`` if it was the roles' fault.

    ``uncovered`` is the share of held-back windows, of those no role was shown, that the judge
    finds unexplained; None if nothing was confirmed or none was held back.
    """

    ledger: Ledger
    stopped: str
    failed: bool
    rounds: int
    calls: int
    measured: int
    uncovered: float | None
    events: list[Event]

    @property
    def confirmed(self) -> list[Entry]:
        """The hypotheses that stand; those that claim the most windows first."""
        share = {cluster.id: cluster.share for cluster in self.ledger.clusters}
        return sorted(
            self.ledger.at("settled"),
            key=lambda entry: -sum(share[c] for c in entry.hypothesis.clusters),
        )


class Agent:
    """Explains one latent.

    Args:
        refused: what ``probes`` raises for a text that cannot be measured.
        covered: tells of every held-back window whether a text explains it.
        join: makes one text of several hypotheses' texts.
        clock: seconds, for the cap on time.
    """

    def __init__(
        self,
        roles: Roles,
        probes: Measure,
        exemplars: Exemplars,
        caps: Caps,
        *,
        refused: type[Exception],
        covered: Covered,
        join: Callable[[Sequence[str]], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.roles, self.exemplars = roles, exemplars
        self.ledger = Ledger(exemplars)
        self.desk = Desk(roles, caps, clock)
        self.bench = Bench(probes, refused, self.ledger, self.desk)
        self._covered, self._join = covered, join
        self._still = self._reviews = 0
        self._seen: set[str] = set()  # gaps that were reviewed
        self._shown: set[int] = set()  # places of held-back windows that a role was shown
        self._verdicts: dict[str, Sequence[bool]] = {}  # on all held-back windows, by text

    async def run(self) -> Result:
        """The whole search. Spent budgets and cancellation pass through."""
        failed = False
        try:
            await self._propose()
            while True:
                self.desk.begin_round(self.bench.measured)
                await self._test()
                await self._revise()
                await self._review()
        except Stop as stop:
            stopped, failed = str(stop), isinstance(stop, Failed)
        self.desk.log("stop", reason=stopped, failed=failed)
        return Result(
            self.ledger, stopped, failed, self.desk.round, self.desk.calls, self.bench.measured,
            await self._uncovered_share(), self.desk.events,
        )  # fmt: skip

    async def _propose(self) -> None:
        table = self.ledger.table(self.desk.round)
        proposed = None
        while proposed is None:
            proposed = await self.desk.call("propose", lambda: self.roles.propose(table))
        self._add(proposed)
        if not self.ledger.entries:
            raise Stop("no hypothesis was proposed")

    def _add(self, hypotheses: Sequence[Hypothesis], replaces: Sequence[str] = ()) -> list[str]:
        room = MOST_OPEN - len(self.ledger.open())
        entries = [self.ledger.add(hypothesis, replaces) for hypothesis in hypotheses[:room]]
        if len(hypotheses) > room:
            self.desk.log("left out", hypotheses=len(hypotheses) - room)
        added = [entry.hypothesis for entry in entries if entry is not None]
        for one in added:
            self.desk.log("hypothesis", id=one.id, text=printable(one.text),
                          relation=one.relation, clusters=list(one.clusters))  # fmt: skip
        return [one.id for one in added]

    async def _test(self) -> None:
        """Design, measure and adjudicate, for all open hypotheses at once."""
        hypotheses = self.ledger.open()
        before = {entry.hypothesis.id: entry.belief for entry in self.ledger.at("open")}
        table = self.ledger.table(self.desk.round)
        plans = await self.desk.call(
            "design", lambda: self.roles.design(table, list(hypotheses.values()))
        )
        screened = screen(plans or (), hypotheses, self.ledger.probes, self.desk.round)
        for text, reason in screened.invalid:
            self.desk.log("invalid probe", text=text[:200], reason=reason)
        self.ledger.count(await self.bench.measure(screened.plans))
        self._adjudicate(before)

    def _adjudicate(self, before: dict[str, Belief]) -> None:
        moved = 0.0
        for name, earlier in before.items():
            entry = self.ledger.entries[name]
            belief = entry.belief
            moved = max(moved, belief.moved(earlier))
            self.desk.log("verdict", hypothesis=name, verdict=belief.verdict,
                          hit_rate=round(belief.hits.mean, 4), pairs=belief.pairs,
                          rejection_rate=round(belief.rejections.mean, 4))  # fmt: skip
            if belief.verdict == "confirmed":
                self.ledger.settle(entry)
        self._still = 0 if moved >= STILL else self._still + 1
        if self._still == STILL_ROUNDS:
            raise Stop(f"{STILL_ROUNDS} rounds moved no posterior")

    async def _revise(self) -> None:
        """Have the hypotheses that tests speak against rewritten; else the failing are dropped."""
        doubtful = [entry for entry in self.ledger.at("open") if entry.belief.doubtful]
        failing = [entry for entry in doubtful if entry.belief.verdict != "open"]
        if not doubtful:
            return
        missed = self.ledger.missed_by(self.ledger.open())
        table = self.ledger.table(self.desk.round)
        revisions = await self.desk.call("revise", lambda: self.roles.revise(table, missed))
        if revisions is None:
            return
        self._apply(revisions, frozenset(self.ledger.open()))
        kept = {t for r in revisions if r.action == "keep" for t in r.targets}
        for entry in failing:
            refuted = entry.belief.verdict == "refuted"
            if entry.place == "open" and (refuted or entry.hypothesis.id not in kept):
                entry.place = "gone"
                self.desk.log("dropped", hypothesis=entry.hypothesis.id)

    def _apply(self, revisions: Sequence[Revision], allowed: frozenset[str]) -> None:
        for revision in revisions:
            targets = [name for name in revision.targets if name in allowed]
            if revision.action == "keep" or not (targets or revision.action == "add"):
                continue
            settled = [t for t in targets if self.ledger.entries[t].place == "settled"]
            for name in targets:
                # A confirmed hypothesis stands until what is to replace it is confirmed.
                if name not in settled or revision.action == "drop":
                    self.ledger.entries[name].place = "gone"
            new = self._add(revision.hypotheses, settled)
            self.desk.log("revision", action=revision.action, targets=targets, new=new,
                          reason=printable(revision.reason))  # fmt: skip

    async def _review(self) -> None:
        """Once all is covered or nothing is left to test: look for gaps, ask once about them."""
        covered = self.ledger.all_covered()
        if self.ledger.at("open") and not covered:
            return
        found = [*gaps(self.ledger), *await self._window_gap()]
        new = [gap for gap in found if gap.text not in self._seen]
        if new and self._reviews < MOST_REVIEWS:
            await self._ask_about(new)
            if self.ledger.at("open"):
                return
        raise Stop(ALL_COVERED if covered else "no hypothesis is left to test")

    async def _ask_about(self, found: Sequence[Gap]) -> None:
        self._reviews += 1
        self._seen |= {gap.text for gap in found}
        self.desk.log("gaps", gaps=[printable(gap.text) for gap in found])
        table = self.ledger.table(self.desk.round)
        revisions = await self.desk.call("review", lambda: self.roles.review(table, found))
        self._apply(revisions or (), frozenset(self.ledger.entries))

    async def _uncovered(self) -> list[int]:
        """Which held-back windows, of those nobody was shown, what is confirmed leaves over."""
        text = self._join([entry.hypothesis.text for entry in self.ledger.at("settled")])
        if text not in self._verdicts:
            self._verdicts[text] = await self._covered(text)
        verdicts = enumerate(self._verdicts[text])
        return [i for i, explained in verdicts if not explained and i not in self._shown]

    async def _window_gap(self) -> list[Gap]:
        held_back = self.exemplars.held_back
        if not self.ledger.at("settled") or not held_back:
            return []
        uncovered = await self.desk.in_time(self._uncovered())
        asked = len(held_back) - len(self._shown)
        found = window_gap(self.exemplars, [held_back[i] for i in uncovered], asked)
        self._shown |= {i for gap in found for i in uncovered[: len(gap.excerpts)]}
        return found

    async def _uncovered_share(self) -> float | None:
        left = len(self.exemplars.held_back) - len(self._shown)
        if not self.ledger.at("settled") or not left:
            return None
        return len(await self._uncovered()) / left

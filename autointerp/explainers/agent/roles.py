"""What the agent's loop and its four roles say to each other.

A role sees an :class:`EvidenceTable`, of bounded size and rebuilt for every call, and answers
with typed objects; it keeps no transcript. The loop makes at most one call a round and role,
for all open hypotheses together. Measuring, counting and verdicts are the loop's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from autointerp.latents import Cost, Evidence, LatentId
from autointerp.latents.scales import LEVELS, Reading

ProbeKind = Literal[
    "positive", "paraphrase", "minimal_pair", "boundary", "hard_negative", "discriminating"
]
Prediction = Literal["on", "off", "abstain"]
Verdict = Literal["open", "confirmed", "weak", "refuted"]
Relation = Literal["competes", "coexists"]
Action = Literal["narrow", "broaden", "split", "merge", "drop", "keep", "add"]


class RoleFailure(Exception):
    """A role got no usable answer; the third in a row ends the latent as ``failed``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Hypothesis:
    """One claim about what the latent fires on.

    The loop gives the ``id`` (``h1``, ``h2``, …): a role leaves it empty in what it writes
    anew. ``text`` is the whole claim in one or two sentences, what is tested and published
    (with pattern roles: a pattern); changing it makes a new hypothesis with empty counts.
    ``label`` names it in at most 20 words. ``level`` is the activation it predicts on its
    typical text, 0 to 10. A hypothesis that ``coexists`` is one of several parts of an
    either-or; one that ``competes`` excludes the others. ``clusters`` are the ids of the
    exemplar clusters that it claims to explain.
    """

    text: str
    label: str = ""
    trigger: str = ""  # what must be in the text
    scope: str = ""  # in which contexts
    exclusions: tuple[str, ...] = ()  # where it does not fire although the trigger is there
    level: int = LEVELS
    relation: Relation = "competes"
    clusters: tuple[str, ...] = ()
    id: str = ""


@dataclass(frozen=True)
class ProbePlan:
    """One text to measure, with what every open hypothesis predicts of it.

    ``family`` names the frame that it shares with other probes: the outcomes of one family
    count together as one. ``base`` is, of a ``minimal_pair``, the text of the unedited member
    (measured too, if it was not yet): the pair counts only if that one measures on.
    ``predictions`` is by hypothesis id; a missing one is ``abstain``. "on" means that the
    latent is active somewhere in the text.
    """

    text: str
    kind: ProbeKind
    family: str
    predictions: Mapping[str, Prediction]
    base: str | None = None


@dataclass(frozen=True)
class Revision:
    """What becomes of the hypotheses ``targets``.

    ``narrow`` and ``broaden`` replace one by one, ``split`` one by several, ``merge`` several
    by one, each by ``hypotheses``; ``drop`` removes and ``keep`` leaves them; ``add`` has no
    targets. ``reason`` is for the log.
    """

    action: Action
    targets: tuple[str, ...]
    hypotheses: tuple[Hypothesis, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Excerpt:
    """A text and its tokens, each with its activation as an integer 0 to 10.

    Joining ``tokens`` does not give ``text`` for every tokenizer. ``left`` stands before it and
    is shown unmarked.
    """

    text: str
    tokens: tuple[str, ...]
    levels: tuple[int, ...]  # one a token
    left: str = ""


@dataclass(frozen=True)
class Cluster:
    """Exemplars that peak on the same token in like contexts. ``share`` is of the windows in
    which the latent is active."""

    id: str  # c1, c2, …
    peak: str  # the commonest token at the peak
    share: float
    excerpts: tuple[Excerpt, ...]


@dataclass(frozen=True)
class Standing:
    """A hypothesis and its counts: ``hits`` of ``on_families`` (predicted on), ``rejections`` of
    ``off_families`` (predicted off); families weigh one each."""

    hypothesis: Hypothesis
    verdict: Verdict
    hits: float
    on_families: int
    rejections: float
    off_families: int
    valid_pairs: int  # minimal pairs whose unedited member measured on
    doubtful: bool = False  # weak, refuted, or open with a rate too low to be confirmed soon


@dataclass(frozen=True)
class MeasuredProbe:
    """A probe as it was measured: its tokens with levels, and the reading against the
    thresholds."""

    id: str  # p1, p2, …
    plan: ProbePlan
    excerpt: Excerpt
    reading: Reading


@dataclass(frozen=True)
class Misprediction:
    """A probe that contradicts what ``hypothesis`` (an id) had ``predicted``. ``counted`` is
    False where the prediction says nothing of the hypothesis (a void pair, an easy negative)."""

    hypothesis: str
    predicted: Prediction
    probe: MeasuredProbe
    counted: bool = True


GapKind = Literal["uncovered_cluster", "uncovered_windows", "overlap", "unexplained_probe"]


@dataclass(frozen=True)
class Gap:
    """What the confirmed hypotheses leave open, found in code; ``text`` says it in a sentence.

    ``uncovered_cluster``: no confirmed hypothesis claims ``clusters``. ``uncovered_windows``:
    the judge finds none of the confirmed hypotheses in ``excerpts``, active windows that no
    role saw before. ``overlap``: the two ``hypotheses`` predict the same probes on.
    ``unexplained_probe``: the ``probes`` measured on and no confirmed hypothesis predicted it.
    """

    kind: GapKind
    text: str
    clusters: tuple[str, ...] = ()
    hypotheses: tuple[str, ...] = ()
    probes: tuple[MeasuredProbe, ...] = ()
    excerpts: tuple[Excerpt, ...] = ()


@dataclass(frozen=True)
class EvidenceTable:
    """All that a role sees of a latent: bounded, and the same whatever the round.

    ``inactive`` are windows with the latent's peak tokens in which it is inactive (random
    inactive windows where there are none). ``probes`` are the latest and the most telling ones
    measured, ``settled`` the confirmed hypotheses, ``open`` those still tested, ``discarded``
    the texts that were refuted, dropped or rewritten, so that nobody proposes them again.
    """

    latent: LatentId
    round: int
    clusters: tuple[Cluster, ...]
    inactive: tuple[Excerpt, ...]
    logit_lens: tuple[str, ...] = ()
    open: tuple[Standing, ...] = ()
    settled: tuple[Standing, ...] = ()
    probes: tuple[MeasuredProbe, ...] = ()
    discarded: tuple[str, ...] = field(default=())


class Roles(Protocol):
    """The four roles for one latent; one object a latent. Each may raise RoleFailure."""

    @property
    def cost(self) -> Cost:
        """What the calls have spent so far; the loop reads it for its caps and its result."""
        ...

    async def propose(self, table: EvidenceTable) -> Sequence[Hypothesis]:
        """Three to five hypotheses; every cluster is claimed by one or left unclaimed."""
        ...

    async def design(
        self, table: EvidenceTable, hypotheses: Sequence[Hypothesis]
    ) -> Sequence[ProbePlan]:
        """Six to twelve probes a hypothesis, half predicted on and half off, with at least four
        families on each side and three minimal pairs; predictions for every one of
        ``hypotheses``, by id.

        Family names are the call's own. A hypothesis that coexists with others abstains on a
        text on which another of them, or a confirmed one, predicts on."""
        ...

    async def revise(
        self, table: EvidenceTable, mispredictions: Sequence[Misprediction]
    ) -> Sequence[Revision]:
        """What to do with the doubtful hypotheses, given all mispredictions of open ones.

        Those whose verdict is ``weak`` or ``refuted`` must be rewritten or dropped: the loop
        drops them if no revision names them, and a ``refuted`` one even if it is kept. One that
        is still ``open`` may be kept with its counts, or rewritten."""
        ...

    async def review(self, table: EvidenceTable, gaps: Sequence[Gap]) -> Sequence[Revision]:
        """How to close the gaps: ``add`` hypotheses, ``merge`` or ``drop`` overlapping ones."""
        ...


RolesFactory = Callable[[Evidence], Roles]

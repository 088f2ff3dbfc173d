"""What the oracle understands of a prompt: the parsed prompt, and the rules its rows suggest.

Nothing but the prompt's text is read. What the oracle knows besides is which words belong to one
subject, as any language model does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from autointerp.patterns import Clause, Condition, Pattern, Token, parse

_SUBJECTS = (
    "cat dog horse cow/red blue green yellow/iron gold silver copper/apple pear plum cherry/"
    "rain snow wind fog/mother father sister brother/hand foot arm knee/"
    "january april june october/car bus train bicycle/tea coffee milk juice/violin cello/"
    "hammer wrench/salmon trout/sonnet haiku/castle fortress/pepper cinnamon/glacier volcano/"
    "waltz tango/spider scorpion/senate congress/diamond ruby/carrot turnip/needle thread/"
    "comet meteor/desert canyon/doctor nurse/boot sandal/oxygen helium/candle torch/"
    "rugby tennis"
)
TOPIC_OF = {word: topic for topic in _SUBJECTS.split("/") for word in topic.split()}
_FUNCTION_WORDS = (
    "the a of and to in is was it that he she they we you with on at by from as for not but or "
    "so if then when while this these those his her their our there here now very just also "
    "more some any each one two . ,"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
MOST_NEIGHBOURS = 2  # different tokens beside a trigger that one condition may name
_MARK = re.compile(r"«(.+)»(\d+)")
_HEADINGS = {
    "ACTIVE EXCERPTS": "active",
    "INACTIVE EXCERPTS": "inactive",
    "OPEN HYPOTHESES": "open",
    "CONFIRMED HYPOTHESES": "settled",
    "DISCARDED, NOT TO BE PROPOSED AGAIN": "discarded",
    "PROBES MEASURED SO FAR": "probes",
    "WRONG PREDICTIONS": "missed",
    "GAPS": "gaps",
    "TOKENS THAT": "promoted",
}


@dataclass(frozen=True)
class Row:
    """One shown text; ``levels`` are None where its activations are not shown."""

    tokens: tuple[str, ...]
    levels: tuple[int | None, ...]
    cut: bool = False  # more text stood before it

    @property
    def peak(self) -> str:
        """The token with the largest activation."""
        return max(zip(self.levels, self.tokens, strict=True), key=lambda pair: pair[0] or 0)[1]


@dataclass(frozen=True)
class Claim:
    """An hypothesis as the prompt shows it."""

    id: str
    pattern: Pattern
    clusters: tuple[str, ...]
    doubtful: bool


@dataclass
class Prompt:
    """All that a prompt says."""

    part: str
    clusters: dict[str, list[Row]] = field(default_factory=dict)
    inactive: list[Row] = field(default_factory=list)
    open: list[Claim] = field(default_factory=list)
    settled: list[Claim] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)
    probes: dict[str, Row] = field(default_factory=dict)
    missed: dict[str, list[str]] = field(default_factory=dict)  # probe ids by hypothesis
    gaps: list[Row] = field(default_factory=list)

    @property
    def excerpts(self) -> list[Row]:
        return [row for rows in self.clusters.values() for row in rows]

    def peaks(self, clusters: Iterable[str]) -> set[str]:
        """The words at which the excerpts of these clusters are most active."""
        return {row.peak for cluster in clusters for row in self.clusters[cluster]}

    @property
    def rows(self) -> list[Row]:
        return [*self.excerpts, *self.inactive, *self.probes.values(), *self.gaps]


def read_prompt(system: str, user: str) -> Prompt:
    """The prompt as data."""
    part = re.search(r"Your part now: (\w+)", system)
    assert part is not None
    prompt = Prompt(part.group(1))
    section, cluster = "", ""
    for line in user.splitlines():
        heading = next((name for text, name in _HEADINGS.items() if line.startswith(text)), None)
        if heading is not None:
            section = heading
        elif section == "active" and (found := re.match(r"(c\d+), ", line)):
            cluster = found.group(1)
        elif line.strip():
            _read_line(prompt, section, cluster, line)
    return prompt


def _read_line(prompt: Prompt, section: str, cluster: str, line: str) -> None:
    body = line.strip().removeprefix("- ")
    name, _, rest = body.partition(": ")
    if section == "active":
        prompt.clusters.setdefault(cluster, []).append(_row(body))
    elif section == "inactive":
        prompt.inactive.append(_row(body))
    elif section in ("open", "settled"):
        _read_claim(getattr(prompt, section), line)
    elif section == "discarded":
        prompt.discarded.append(body)
    elif section == "probes" and (found := re.match(r"(p\d+) \w+$", name)):
        prompt.probes[found.group(1)] = _row(rest)
    elif section == "missed" and re.match(r"h\d+ predicted", name):
        prompt.missed.setdefault(name.split()[0], []).extend(re.findall(r"p\d+", rest))
    elif section == "gaps" and line.startswith("  - "):
        prompt.gaps.append(_row(body))


def _read_claim(claims: list[Claim], line: str) -> None:
    if line.startswith("   [") and claims:
        last = claims[-1]
        explains = re.search(r"explains ((?:c\d+ ?)+)", line)
        clusters = tuple(explains.group(1).split()) if explains else ()
        claims[-1] = Claim(last.id, last.pattern, clusters, "doubtful" in line)
    elif found := re.match(r"(h\d+): (.*)", line):
        claims.append(Claim(found.group(1), parse(found.group(2)), (), False))


def _row(text: str) -> Row:
    left, bar, shown = text.rpartition("‖")
    tokens: list[str] = left.replace("…", "").split()
    levels: list[int | None] = [None] * len(tokens)
    for word in shown.replace("…", "").split():
        mark = _MARK.fullmatch(word)
        tokens.append(mark.group(1) if mark else word)
        levels.append(int(mark.group(2)) if mark else 0)
    return Row(tuple(tokens), tuple(levels), bool(bar) or text.startswith("…"))


def active_words(rows: Iterable[Row]) -> dict[str, int]:
    """Words that are marked somewhere, and how often; the commonest first."""
    counts: dict[str, int] = {}
    for row in rows:
        for token, level in zip(row.tokens, row.levels, strict=True):
            counts[token] = counts.get(token, 0) + bool(level)
    marked = [(word, count) for word, count in counts.items() if count]
    return dict(sorted(marked, key=lambda item: (-item[1], item[0])))


def words_of(pattern: Pattern) -> set[str]:
    """The words at which a pattern may hold."""
    return {a.text for c in pattern.clauses for a in c.match if isinstance(a, Token)}


def silent(rows: Sequence[Row]) -> list[str]:
    """Words that are shown and never active."""
    active = active_words(rows)
    return sorted({token for row in rows for token in row.tokens} - set(active))


def recognised(rows: Sequence[Row]) -> list[Clause]:
    """The rules that the rows suggest, one a subject and condition; the most marked first."""
    groups: dict[tuple[str, str], list[tuple[str, Clause]]] = {}
    for word in active_words(rows):
        clause = _clause(word, rows)
        shape = str(Clause((Token("x"),), clause.conditions, clause.exceptions))
        groups.setdefault((TOPIC_OF.get(word, ""), shape), []).append((word, clause))
    return [
        Clause(
            tuple(Token(word) for word in sorted(word for word, _ in members)),
            members[0][1].conditions,
            members[0][1].exceptions,
        )
        for members in groups.values()
    ]


@dataclass(frozen=True)
class _Place:
    row: Row
    at: int

    @property
    def previous(self) -> str | None:
        return self.row.tokens[self.at - 1] if self.at else None

    @property
    def before(self) -> frozenset[str]:
        return frozenset(self.row.tokens[: self.at])


def _places(word: str, rows: Iterable[Row], active: bool) -> Iterator[_Place]:
    for row in rows:
        for at, (token, level) in enumerate(zip(row.tokens, row.levels, strict=True)):
            if token == word and level is not None and bool(level) == active:
                yield _Place(row, at)


def _clause(word: str, rows: Sequence[Row]) -> Clause:
    """The word, with the simplest condition that tells where it is active from where it is not."""
    match = (Token(word),)
    on, off = list(_places(word, rows, True)), list(_places(word, rows, False))
    beside, avoided = {p.previous for p in on}, {p.previous for p in off}
    if not off:
        return Clause(match)
    if beside.isdisjoint(avoided):
        few, fewer = len(beside) <= MOST_NEIGHBOURS, len(avoided) <= MOST_NEIGHBOURS
        if few and (len(beside) <= len(avoided) or not fewer) and None not in beside:
            return Clause(match, (_after(beside),))
        if fewer and None not in avoided:
            return Clause(match, exceptions=(_after(avoided),))
    earlier = _earlier(on, off)
    return Clause(match, (Condition("somewhere after", (Token(earlier),)),) if earlier else ())


def _after(words: Iterable[str | None]) -> Condition:
    return Condition("after", tuple(Token(word) for word in sorted(filter(None, words))))


def _earlier(on: Sequence[_Place], off: Sequence[_Place]) -> str | None:
    """What stands before every active place, as far as its text is shown, and no inactive one;
    rather a word with a meaning of its own."""
    ruled_out = frozenset().union(*(place.before for place in off))
    support: dict[str, int] = {}
    for place in on:
        for word in place.before - ruled_out:
            support[word] = support.get(word, 0) + 1
    whole = [place.before for place in on if not place.row.cut]
    fit = [word for word in support if all(word in before for before in whole)]
    return max(fit, key=lambda w: (w not in FUNCTION_WORDS, support[w], w), default=None)

"""A world whose truth is known: words, latents with exact rules, and seeded random text.

``planted_weights`` turns the rules into a causal language model and sparse coders in which each
latent is active exactly where its rule holds. Nothing is trained and nothing is approximate.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Family = Literal[
    "token_set", "single", "previous", "earlier", "either_or", "unless", "dense", "rare", "dead"
]

UNKNOWN, BOS = "<unk>", "<bos>"
_COMMON = (
    "the a of and to in is was it that he she they we you with on at by from as for not but or "
    "so if then when while this these those his her their our there here now very just also "
    "more some any each one two . ,"
)
COMMON = _COMMON.split()
_TOKEN_SETS = (
    "cat dog horse cow/red blue green yellow/iron gold silver copper/apple pear plum cherry/"
    "rain snow wind fog/mother father sister brother/hand foot arm knee/january april june october/"
    "car bus train bicycle/tea coffee milk juice"
)
_SINGLES = "zebra violet lantern pyramid harbour thunder"
_PREVIOUS = (  # what fires : what must stand right before it
    "bank:river/bank:savings/bat:baseball/bat:vampire/spring:hot/spring:coil/light:traffic/"
    "light:feather/key:piano/key:house/match:football/match:burning"
)
_EARLIER = (  # what fires : what must have occurred in the row
    "damage:storm/shelter:storm/judge:court/sentence:court/order:kitchen/pan:kitchen/"
    "stage:rocket/launch:rocket"
)
_EITHER_OR = (
    "violin cello|hammer wrench/salmon trout|sonnet haiku/castle fortress|pepper cinnamon/"
    "glacier volcano|waltz tango/spider scorpion|senate congress/diamond ruby|carrot turnip/"
    "needle thread|comet meteor/desert canyon|doctor nurse/boot sandal|oxygen helium/"
    "candle torch|rugby tennis"
)
_UNLESS = (  # what fires : what must not stand right before it
    "tie:neck/cake:cheese/board:surf/paper:news/room:bath/port:air/book:note/shell:sea/"
    "flower:sun/bow:long"
)
_RARE = "obsidian quasar zeppelin"
_NEVER_WRITTEN = "unicorn phoenix"
_RARE_SHARE = 0.01  # of documents that hold one of the rare words, each


@dataclass(frozen=True)
class Rule:
    """When a latent fires: on ``strengths``' tokens, where all that is given holds.

    ``strengths`` maps a token to how strongly it drives the latent (0.6 to 1). ``decoys``
    drive it too little to pass its threshold.
    """

    strengths: dict[str, float]
    previous: frozenset[str] = frozenset()
    unless_previous: frozenset[str] = frozenset()
    earlier: str | None = None
    decoys: frozenset[str] = frozenset()

    def fires(self, tokens: Sequence[str], position: int) -> bool:
        """Whether the latent is active at ``position`` of a row (BOS not among ``tokens``)."""
        if tokens[position] not in self.strengths:
            return False
        before = tokens[position - 1] if position else None
        if self.previous and before not in self.previous:
            return False
        if before in self.unless_previous:
            return False
        return self.earlier is None or self.earlier in tokens[:position]


@dataclass(frozen=True)
class PlantedLatent:
    """One latent: its rule, the same in words, and the output tokens it promotes."""

    index: int
    family: Family
    rule: Rule
    explanation: str
    scale: float  # units of activation for a strength of 1
    promoted: tuple[str, ...] = ()

    @property
    def pattern(self) -> str:
        """The rule in the grammar of ``autointerp.patterns``, of rules of few words."""
        clause = _quoted(self.rule.strengths)
        if self.rule.previous:
            clause += f" after {_quoted(self.rule.previous)}"
        if self.rule.unless_previous:
            clause += f" unless after {_quoted(self.rule.unless_previous)}"
        if self.rule.earlier is not None:
            clause += f" somewhere after {_quoted([self.rule.earlier])}"
        return clause or "nothing"


@dataclass(frozen=True)
class Truth:
    """Everything that is known about the planted subject."""

    vocabulary: tuple[str, ...]  # by token id
    latents: tuple[PlantedLatent, ...]
    context_tokens: tuple[str, ...] = field(init=False)  # tokens some rule looks back one for
    earlier_tokens: tuple[str, ...] = field(init=False)  # tokens some rule remembers

    def __post_init__(self) -> None:
        rules = [latent.rule for latent in self.latents]
        context = {word for rule in rules for word in rule.previous | rule.unless_previous}
        object.__setattr__(self, "context_tokens", tuple(sorted(context)))
        earlier = {rule.earlier for rule in rules if rule.earlier is not None}
        object.__setattr__(self, "earlier_tokens", tuple(sorted(earlier)))

    def family(self, *names: Family) -> list[PlantedLatent]:
        return [latent for latent in self.latents if latent.family in names]

    def fires(self, index: int, tokens: Sequence[str]) -> list[bool]:
        """Per position of a row, whether latent ``index`` is active."""
        rule = self.latents[index].rule
        return [rule.fires(tokens, position) for position in range(len(tokens))]

    def sibling(self, index: int) -> int:
        """The latent whose decoder direction is nearest."""
        return index ^ 1


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in sorted(words))


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(left, right) for left, _, right in (item.partition(":") for item in text.split("/"))]


def _graded(words: Sequence[str]) -> dict[str, float]:
    return {word: 1.0 - 0.4 * i / max(1, len(words) - 1) for i, word in enumerate(words)}


def _rules() -> Iterator[tuple[Family, Rule, str]]:
    sets = [item.split() for item in _TOKEN_SETS.split("/")]
    for i, words in enumerate(sets):
        decoy = frozenset({sets[(i + 1) % len(sets)][0]})
        yield "token_set", Rule(_graded(words), decoys=decoy), f"the words {', '.join(words)}"
    for word in _SINGLES.split():
        yield "single", Rule({word: 1.0}), f"the word {word}"
    for word, before in _pairs(_PREVIOUS):
        rule = Rule({word: 1.0}, previous=frozenset({before}))
        yield "previous", rule, f"the word {word} right after the word {before}"
    for word, earlier in _pairs(_EARLIER):
        text = f"the word {word} when the word {earlier} occurred earlier in the text"
        yield "earlier", Rule({word: 1.0}, earlier=earlier), text
    for item in _EITHER_OR.split("/"):
        left, right = item.split("|")
        strengths = _graded([*left.split(), *right.split()])
        yield "either_or", Rule(strengths), f"the words {', '.join(strengths)}"
    for word, before in _pairs(_UNLESS):
        rule = Rule({word: 1.0}, unless_previous=frozenset({before}))
        yield "unless", rule, f"the word {word}, but not right after the word {before}"
    for words in (COMMON[:-14], COMMON[14:]):
        yield "dense", Rule(_graded(words)), "many common words"
    for word in _RARE.split():
        yield "rare", Rule({word: 1.0}), f"the word {word}"
    unicorn, phoenix = _NEVER_WRITTEN.split()
    yield "dead", Rule({}), "nothing"
    yield "dead", Rule({unicorn: 1.0}), f"the word {unicorn}"
    rule = Rule({unicorn: 1.0}, previous=frozenset({phoenix}))
    yield "dead", rule, f"the word {unicorn} right after the word {phoenix}"


def build_truth() -> Truth:
    """The planted world; the same at every call."""
    groups = [_TOKEN_SETS, _SINGLES, _PREVIOUS, _EARLIER, _EITHER_OR, _UNLESS]
    words = [*COMMON]
    for group in [*groups, _RARE, _NEVER_WRITTEN]:
        words += group.replace("/", " ").replace(":", " ").replace("|", " ").split()
    unique = list(dict.fromkeys(words))
    promotable = unique[:]
    random.Random("promoted").shuffle(promotable)
    latents = [
        PlantedLatent(
            index=i,
            family=family,
            rule=rule,
            explanation=explanation,
            scale=(1.0, 3.0, 0.5, 8.0, 2.0)[i % 5],
            promoted=tuple(promotable[3 * i : 3 * i + 3]),
        )
        for i, (family, rule, explanation) in enumerate(_rules())
    ]
    return Truth(vocabulary=(UNKNOWN, BOS, *unique), latents=tuple(latents))


def write_document(rng: random.Random) -> str:
    """One random text of 100 to 300 words in which every rule has its chance."""
    previous, earlier, unless = _pairs(_PREVIOUS), _pairs(_EARLIER), _pairs(_UNLESS)
    sets = f"{_TOKEN_SETS}/{_SINGLES}/{_EITHER_OR}".replace("/", " ").replace("|", " ").split()
    heads = [word for word, _ in [*previous, *unless]]
    befores = [before for _, before in [*previous, *unless]]
    length = rng.randint(100, 300)
    words: list[str] = []
    while len(words) < length:
        draw = rng.random()
        if draw < 0.50:
            words.append(rng.choice(COMMON))
        elif draw < 0.66:
            words.append(rng.choice(sets))
        elif draw < 0.73:
            words.append(rng.choice(heads))
        elif draw < 0.77:
            words.append(rng.choice(befores))
        elif draw < 0.87:
            word, before = rng.choice([*previous, *unless])
            words += [before, word]
        else:
            words.append(rng.choice(rng.choice(earlier)))
    for word in _RARE.split():
        if rng.random() < _RARE_SHARE:
            words[rng.randrange(length)] = word
    return " ".join(words[:length])


def write_corpus(path: Path, documents: int = 500, seed: int = 0) -> list[str]:
    """Write a jsonl corpus with the column ``text``, and return the texts."""
    texts = [write_document(random.Random(f"{seed}/{i}")) for i in range(documents)]
    with path.open("w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}) + "\n")
    return texts

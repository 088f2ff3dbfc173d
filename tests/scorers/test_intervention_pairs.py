"""What the pairs of intervention give away, and what is said of them, on a scripted subject."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from clustering import PROMPT, PairClustering
from given_sets import without_set
from scripted_effects import VOCABULARY, ScriptedEffects, is_neutral, latent, peers

from autointerp.judges.pairs import TextPair
from autointerp.latents import Number, Score
from autointerp.scorers.contests import Contest
from autointerp.scorers.intervention import InterventionOptions, InterventionScorer
from autointerp.scorers.likelihood_contests import by_surprisal
from autointerp.subject.direction import Direction

ALL = ("own", "other", "direction", "null", "null_own")


def scored(
    judge: Any, effects: ScriptedEffects, index: int = 0, others: int = 40, **options: Any
) -> Score:
    known = peers(others + 1)
    scorer = InterventionScorer(InterventionOptions(**options), judge=judge, effects=effects)  # type: ignore[arg-type]
    return asyncio.run(scorer.score(known[index], without_set(latent(index), peers=known)))


def theme(direction: Direction | None) -> str | None:
    """Each direction's own word, at the head of all it brings about."""
    if direction is None:
        return None
    kind = 0 if direction.random is None else 1 + direction.random
    return VOCABULARY[100 * kind + direction.latent.index]


@pytest.mark.parametrize("theme", [theme, lambda direction: None], ids=["themes", "no themes"])
def test_a_judge_that_goes_by_what_recurs_gains_nothing(theme: Callable[..., Any]) -> None:
    scores = [scored(PairClustering(), ScriptedEffects(theme=theme), i) for i in range(12)]
    for score in scores:
        assert score.metrics["gain"].value == 0
    for source in ALL:
        assert np.mean([s.metrics[source].value for s in scores]) == pytest.approx(0.5, abs=0.04)


@dataclass
class Asked:
    """Keeps what it was asked."""

    name: str = "asked"
    calls: list[tuple[str, list[TextPair]]] = field(default_factory=list)

    async def prefer(self, explanation: str, pairs: Sequence[TextPair]) -> list[int]:
        self.calls.append((explanation, list(pairs)))
        return [0] * len(pairs)


@pytest.mark.parametrize(("pairs", "others", "foils"), [(40, 40, 2), (37, 40, 3), (12, 3, 1)])
def test_own_and_other_texts_are_judged_with_the_same_pairs(
    pairs: int, others: int, foils: int
) -> None:
    judge = Asked()
    scored(judge, ScriptedEffects(), others=others, pairs=pairs, foils=foils)
    assert all(len({p.before for p in asked}) == len(asked) for _, asked in judge.calls)
    own = [asked for text, asked in judge.calls if text == "text 0"]
    other = [asked for text, asked in judge.calls if text.startswith("text") and text != "text 0"]
    assert sum(map(len, other)) == 2 * pairs
    assert all(asked in own for asked in other)


def test_lots_fill_requests() -> None:
    judge = Asked()
    scored(judge, ScriptedEffects())
    requests = sum(-(-len(asked) // PROMPT) for _, asked in judge.calls)
    sources = 6
    assert requests == 2 * sources * 40 / PROMPT


def test_each_random_direction_has_an_explanation_of_its_own() -> None:
    judge = Asked()
    effects = ScriptedEffects(theme=theme)
    scored(judge, effects)
    for number in (0, 1):
        text = f"effect of random direction {number}"
        (word,) = {theme(Direction(latent(0), number))}
        shown = [p for asked_of, asked in judge.calls if asked_of == text for p in asked]
        assert len(shown) == 40
        assert all(word.strip() in f"{p.first} {p.second}".split() for p in shown)


def test_the_details_tell_how_far_was_steered() -> None:
    """The latent moves prompts on which it is inactive thrice as far as the others."""
    own = Direction(latent(0))

    def moves(direction: Direction, prompt: Any) -> float:
        return 1.0 if direction != own else 1.5 if is_neutral(prompt) else 0.5

    details = scored(PairClustering(), ScriptedEffects(moves), others=3).details
    assert details["kl"]["neutral"] == pytest.approx({"own": 1.5, "foils": 1.0})
    assert details["kl"]["activating"] == pytest.approx({"own": 0.5, "foils": 1.0})
    assert (details["strength"], details["over_state"]) == (1.0, 0.25)
    assert details["over_maximum"] is None  # nothing is known of its activations
    assert details["others"] == 1  # of three, two are foils


class Wordy:
    """A base model to which each word is as likely as the continuation says, by its first word."""

    name = "wordy"

    def __init__(self, of: Callable[[str, str], float]) -> None:
        self._of = of

    async def likelihoods(
        self, explanations: Sequence[str], texts: Sequence[str]
    ) -> list[list[float | str]]:
        return [[len(e.split()) * self._of(e, t) for e in explanations] for t in texts]


def surprisals(of: Callable[[str, str], float], text: str) -> tuple[list[Any], list[float]]:
    own, foil = Direction(latent(0)), Direction(latent(1))
    effects = ScriptedEffects(theme=theme)
    prompts = effects.prefixes.of(latent(0), "test", 10).all
    contests = [Contest("own", text, own, foil, i) for i in range(10)]
    contests += [Contest("clean", text, own, None, i) for i in range(10)]
    others = ["a b c", "d e f", "g h i", "j k l"]
    work = by_surprisal(Wordy(of), effects, prompts, contests, others, latent=latent(0))  # type: ignore[arg-type]
    answers, nats = asyncio.run(work)
    return answers.values, [o.value for o in nats if isinstance(o, Number)]


@pytest.mark.parametrize("words", [1, 3, 12])
def test_the_length_of_an_explanation_says_nothing(words: int) -> None:
    """After what the latent brings about every word is likelier, whatever the explanation."""
    head = VOCABULARY[0].strip()
    values, nats = surprisals(lambda e, t: -1.9 if head in t.split() else -2.0, "x " * words)
    assert values == [0.5] * 20
    assert nats == pytest.approx([0.0] * 10)


@pytest.mark.parametrize("words", [1, 3, 12])
def test_what_makes_the_own_words_likelier_is_told_in_nats_a_word(words: int) -> None:
    head = VOCABULARY[0].strip()
    found = surprisals(
        lambda e, t: -1.9 if head in t.split() and e.startswith("x") else -2.0, "x " * words
    )
    assert found[0] == [1.0] * 20
    assert found[1] == pytest.approx([0.1] * 10)


def test_surprisals_need_another_text_for_the_others_too() -> None:
    few = scored(Wordy(lambda e, t: -2.0), ScriptedEffects(), others=2, foils=1)
    assert (few.status, few.outcomes) == ("too_few_examples", ())
    assert few.reason is not None
    assert few.reason.startswith("one other latent's explanation")
    enough = scored(Wordy(lambda e, t: -2.0), ScriptedEffects(), others=3, foils=1)
    assert enough.status == "scored"
    assert enough.details["others"] == 2


def test_explanations_that_read_alike_count_once() -> None:
    judge, known = Asked(), peers(12)
    alike = [replace(e, text="text 6") if e.latent.index > 6 else e for e in known]
    scorer = InterventionScorer(judge=judge, effects=ScriptedEffects())  # type: ignore[arg-type]
    score = asyncio.run(scorer.score(alike[0], without_set(latent(0), peers=alike)))
    texts = {text for text, _ in judge.calls if text.startswith("text")}
    assert len(texts - {"text 0"}) == score.details["others"]

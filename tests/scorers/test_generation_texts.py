"""The texts of generation: by patterns, by a scripted model, and how that model is asked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from generation_world import GenerationWorld
from golden import check_golden
from llm_server import Body
from oracle_judging import EXPLANATION, understood
from planted import COMMON
from planted_coders import SAELENS, Planted
from planted_others import values
from small_run import document, settings

from autointerp.judges import NoVerdict
from autointerp.latents import Failure, LatentId
from autointerp.llm.templates import Templates
from autointerp.patterns import matches, parse
from autointerp.pipeline.rendered import Recorder, render
from autointerp.pipeline.tasks import NamedScorer
from autointerp.scorers import Materials
from autointerp.scorers.generation import GenerationOptions, GenerationScorer
from autointerp.scorers.texts import PatternTexts, Wanted
from autointerp.subject.probing import ProbeError

_COUNT = re.compile(r'^- "(\w+)": (\d+) texts', re.MULTILINE)


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> GenerationWorld:
    return GenerationWorld.of(planted, tmp_path_factory.mktemp("generation"))


# By patterns


def pattern_texts(
    world: GenerationWorld, shown: Materials, text: str, wanted: Wanted, seed: int = 0
) -> list[str | NoVerdict]:
    texts = PatternTexts(world.subject.encode_text, seed)
    return asyncio.run(texts.write(text, shown, wanted))


PATTERNS = [
    '"zebra"',
    '"cat", "dog" after "the", "a"',
    '"tie" unless after "neck"',
    '"damage" somewhere after "storm"',
    'tokens starting with "s" before "the"; or "cat" two tokens after identifiers',
    "punctuation",
    'lower-case words after punctuation unless after ","',
]


@pytest.mark.parametrize("text", PATTERNS)
def test_the_pattern_holds_in_activating_texts_alone(world: GenerationWorld, text: str) -> None:
    shown = world.planted.materials(world.planted.latents[0])
    written = pattern_texts(world, shown, text, Wanted(10, 20))
    assert len(written) == 30
    assert all(isinstance(one, str) for one in written), written
    assert len(set(written)) == 30
    held = [any(matches(parse(text), str(one).split())) for one in written]
    assert held == [True] * 10 + [False] * 20


def test_every_token_has_its_turn(world: GenerationWorld) -> None:
    shown = world.planted.materials(world.planted.latents[0])
    words = ["violin", "cello", "hammer", "wrench"]
    written = pattern_texts(world, shown, ", ".join(f'"{word}"' for word in words), Wanted(10, 0))
    assert all(any(word in str(text).split() for text in written) for word in words)


def test_texts_know_nothing_of_the_latent_and_depend_on_the_seed(world: GenerationWorld) -> None:
    shown = world.planted.materials(world.planted.latents[0])
    blind = replace(shown, evidence=None, background_maxima=None)
    one = pattern_texts(world, shown, '"zebra"', Wanted(5, 5))
    assert pattern_texts(world, blind, '"zebra"', Wanted(5, 5)) == one
    assert set(pattern_texts(world, shown, '"zebra"', Wanted(5, 5), seed=1)).isdisjoint(one)
    other = replace(shown, latent=LatentId(SAELENS, 1))
    assert set(pattern_texts(world, other, '"zebra"', Wanted(5, 5))).isdisjoint(one)


# By a language model


class Author:
    """Writes what it is asked for, of the planted world's words."""

    def __init__(self) -> None:
        self.asked: list[dict[str, int]] = []

    def __call__(self, body: Body) -> Any:
        question = body["messages"][-1]["content"]
        found = EXPLANATION.search(question)
        assert found is not None
        wanted = {name: int(n) for name, n in _COUNT.findall(body["messages"][0]["content"])}
        self.asked.append(wanted)
        clause = understood(found[1]).clauses[0]
        words = [str(getattr(atom, "text", "")) for atom in clause.match]
        before = " ".join(a.text for c in clause.conditions for a in c.atoms)  # type: ignore[union-attr]
        return {
            name: [_text(i, before, words[i % len(words)], name) for i in range(n)]
            for name, n in wanted.items()
        }


def _text(number: int, before: str, word: str, kind: str) -> str:
    start = f"{COMMON[number]} {COMMON[number + 1]}"
    if kind == "activating":
        return f"{start} {before} {word} when"
    return f"{start} {word if before else COMMON[number + 2]} by"


def test_a_model_writes_from_the_explanation(world: GenerationWorld, tmp_path: Path) -> None:
    for latent in (world.planted.truth.family(f)[1] for f in ("previous", "token_set", "earlier")):
        author = Author()
        score = world.written(latent, tmp_path / str(latent.index), author)
        assert author.asked == [{"activating": 10, "near_misses": 20}]
        assert (score.status, score.judge) == ("scored", "llm")
        assert score.metrics["balanced_accuracy"].value >= 0.95
        first = score.details["samples"]["activating"][0][0]
        assert any(word in first for word in latent.rule.strengths)


def test_sage_asks_for_no_near_misses(world: GenerationWorld, tmp_path: Path) -> None:
    author = Author()
    score = world.written(world.planted.latents[0], tmp_path, author, variant="sage")
    assert author.asked == [{"activating": 10}]
    assert len(score.outcomes) == 10
    assert score.metrics["success_rate"].value >= 0.9


@pytest.mark.parametrize(
    "spoil",
    [
        lambda reply: {**reply, "activating": reply["activating"][:9]},
        lambda reply: {**reply, "activating": [*reply["activating"][:9], " "]},
        lambda reply: {
            **reply,
            "near_misses": [*reply["near_misses"][:19], reply["activating"][0]],
        },
        lambda reply: "no",
    ],
)
def test_an_unusable_reply_fails_all_texts(
    world: GenerationWorld, tmp_path: Path, spoil: Callable[[Any], Any]
) -> None:
    author = Author()
    score = world.written(world.planted.latents[0], tmp_path, lambda body: spoil(author(body)))
    assert score.status == "failed"
    assert "no text was measured" in str(score.reason)
    assert len([o for o in score.outcomes if isinstance(o, Failure)]) == 30
    assert score.metrics["balanced_accuracy"].value == 0
    assert score.metrics["best_case"].value == 1


def test_a_reply_is_repaired_once(world: GenerationWorld, tmp_path: Path) -> None:
    author = Author()

    def answer(body: Body) -> Any:
        if any("cannot be used" in m["content"] for m in body["messages"]):
            return author({**body, "messages": body["messages"][:2]})
        return "Certainly! Here they are."

    score = world.written(world.planted.latents[0], tmp_path, answer)
    assert score.metrics["balanced_accuracy"].value >= 0.95


def test_a_text_that_cannot_be_measured_is_a_failure_alone(
    world: GenerationWorld, tmp_path: Path
) -> None:
    latent = world.planted.truth.family("single")[0]
    author = Author()

    def answer(body: Body) -> Any:
        reply = author(body)
        reply["activating"][0] = "the " * 200
        reply["near_misses"][3] = "on " * 300
        return reply

    score = world.written(latent, tmp_path, answer)
    found = values(score)
    failed = [i for i, o in enumerate(score.outcomes) if isinstance(o, Failure)]
    assert failed == [0, 13]
    assert "fit the context" in str(getattr(score.outcomes[0], "reason", ""))
    assert found["failures"] == 2
    assert found["hit_rate"] == pytest.approx(0.9)
    assert found["rejection_rate"] == pytest.approx(0.95)
    assert found["worst_case"] == found["balanced_accuracy"] < found["best_case"] == 1


def test_sage_bounds_what_its_failures_may_have_been(
    world: GenerationWorld, tmp_path: Path
) -> None:
    author = Author()

    def answer(body: Body) -> Any:
        reply = author(body)
        reply["activating"][:2] = ["the " * 200, "on " * 300]
        return reply

    latent = world.planted.truth.family("single")[0]
    found = values(world.written(latent, tmp_path, answer, variant="sage"))
    assert found["failures"] == 2
    assert found["success_rate"] == found["worst_case"] == pytest.approx(0.8)
    assert found["best_case"] == 1


# Wording


def test_its_prompt_is_shown_without_measuring(world: GenerationWorld) -> None:
    recorder = Recorder()
    scorer = GenerationScorer(
        GenerationOptions(by="llm"),
        probes=None,  # type: ignore[arg-type]
        refused=ProbeError,
        client=recorder,
        templates=Templates(),
    )
    latent, named = LatentId(SAELENS, 0), NamedScorer("generation", scorer)
    found = asyncio.run(render(world.planted.store, latent, [], [named], recorder))
    assert len(found.scorers["generation"]) == 1


def test_prompts_of_a_run_are_shown_whoever_writes(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_path = str(tmp_path / "run")
    overrides = [*settings(planted), "scorers=[{kind: generation}, {kind: simulation}]"]
    document(capsys, "collect", "--run", run_path, *overrides)
    assert document(capsys, "prompts", run_path, "a/0")


@pytest.mark.parametrize("near_misses", [20, 0])
def test_prompt(near_misses: int) -> None:
    check_golden(
        f"judge/generation_{'balanced' if near_misses else 'sage'}",
        Templates().render(
            "judge/generation",
            explanation='the token "hi"\nor numbers',
            activating=10,
            near_misses=near_misses,
        ),
    )

"""Generation on the planted subject: texts by patterns and by a scripted model, measured."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from golden import check_golden
from llm_asking import run
from llm_server import Body, LLMServer
from oracle_judging import understood
from planted import COMMON, PlantedLatent
from planted_coders import SAELENS, Planted
from planted_others import PlantedStore, build
from small_run import document, settings

from autointerp.config import build_config
from autointerp.explainers.agent.exemplars import Exemplars
from autointerp.judges import NoVerdict
from autointerp.latents import AutointerpError, Failure, LatentId, Number, Score
from autointerp.llm.templates import Templates
from autointerp.patterns import matches, parse
from autointerp.pipeline.rendered import Recorder, render
from autointerp.pipeline.tasks import NamedScorer
from autointerp.registry import scorers
from autointerp.scorers import Materials
from autointerp.scorers.generation import GenerationOptions, GenerationScorer
from autointerp.scorers.texts import PatternTexts, Wanted
from autointerp.subject.model import Subject, load_subject
from autointerp.subject.probing import ProbeError, ProbeQueue

_EXPLANATION = re.compile(r"<explanation>\n(.*?)\n</explanation>", re.DOTALL)
_COUNT = re.compile(r'^- "(\w+)": (\d+) texts', re.MULTILINE)
T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The planted store, and the subject to measure on."""

    planted: PlantedStore
    subject: Subject

    def measuring(self, work: Callable[[ProbeQueue], Awaitable[T]]) -> T:
        async def opened() -> T:
            hook = self.subject.hook_point("transformer.h.0")
            async with ProbeQueue(self.subject, {SAELENS: (self.planted.coder, hook)}) as queue:
                return await work(queue)

        return asyncio.run(opened())

    def by_pattern(self, queue: ProbeQueue, seed: int = 0, **options: Any) -> GenerationScorer:
        return GenerationScorer(
            GenerationOptions(**options),
            seed,
            probes=queue,
            refused=ProbeError,
            encode=self.subject.encode_text,
        )

    def scores(
        self, asked: Sequence[tuple[PlantedLatent, str]], seed: int = 0, **options: Any
    ) -> list[Score]:
        """Of pairs of a latent and a pattern."""

        async def work(queue: ProbeQueue) -> list[Score]:
            scorer = self.by_pattern(queue, seed, **options)
            explanations = [self.planted.explanation(latent, text) for latent, text in asked]
            shown = [self.planted.materials(latent) for latent, _ in asked]
            return list(await asyncio.gather(*map(scorer.score, explanations, shown)))

        return self.measuring(work)

    def written(self, latent: PlantedLatent, folder: Path, answer: Any, **options: Any) -> Score:
        """By a model that gives this answer."""

        async def work(llms: Any) -> Score:
            hook = self.subject.hook_point("transformer.h.0")
            async with ProbeQueue(self.subject, {SAELENS: (self.planted.coder, hook)}) as queue:
                scorer = GenerationScorer(
                    GenerationOptions(by="llm", **options),
                    probes=queue,
                    refused=ProbeError,
                    client=llms.clients["judge"],
                    templates=Templates(),
                )
                explanation = self.planted.explanation(latent, latent.explanation)
                return await scorer.score(explanation, self.planted.materials(latent))

        with LLMServer(answer) as server:
            return run(server, folder, work)


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> World:
    subject = load_subject(str(planted.files.model), device="cpu", context_length=97)
    return World(build(planted, tmp_path_factory.mktemp("generation")), subject)


def values(score: Score) -> dict[str, float]:
    return {name: metric.value for name, metric in score.metrics.items()}


def headlines(found: Sequence[Score]) -> np.ndarray:
    return np.array([score.metrics[score.headline].value for score in found])


class Author:
    """Writes what it is asked for, of the planted world's words."""

    def __init__(self) -> None:
        self.asked: list[dict[str, int]] = []

    def __call__(self, body: Body) -> Any:
        question = body["messages"][-1]["content"]
        found = _EXPLANATION.search(question)
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


# Validity


def test_true_patterns_score_high_and_others_at_chance(world: World) -> None:
    latents = world.planted.latents[::2]
    own = world.scores([(latent, latent.pattern) for latent in latents])
    strangers = [*latents[7:], *latents[:7]]
    pairs = zip(latents, strangers, strict=True)
    other = world.scores([(latent, stranger.pattern) for latent, stranger in pairs])
    assert headlines(own).mean() >= 0.97
    assert headlines(own).min() >= 0.8
    assert headlines(other).max() <= 0.6
    assert headlines(other).mean() == pytest.approx(0.5, abs=0.05)
    assert all(score.chance == 0.5 for score in own)
    assert all(score.judge == "pattern" for score in own)


def test_what_is_too_narrow_hits_and_what_is_too_broad_does_not(world: World) -> None:
    latent = world.planted.truth.family("previous")[0]
    (word,) = latent.rule.strengths
    (before,) = latent.rule.previous
    broad, narrow = values_of(
        world.scores([(latent, f'"{word}"'), (latent, f'"{word}" after "{before}" before "the"')])
    )
    assert broad["hit_rate"] <= 0.2
    assert narrow["hit_rate"] == 1
    assert narrow["rejection_rate"] < 0.9


def values_of(found: Sequence[Score]) -> list[dict[str, float]]:
    return [values(score) for score in found]


def test_sage_counts_ten_texts_at_half_of_the_largest(world: World) -> None:
    latents = world.planted.latents[::3]
    own = world.scores([(latent, latent.pattern) for latent in latents], variant="sage")
    other = world.scores(
        [(latent, latents[i - 1].pattern) for i, latent in enumerate(latents)], variant="sage"
    )
    assert headlines(own).mean() >= 0.95
    assert headlines(other).mean() <= 0.15
    score, evidence = own[0], world.planted.materials(latents[0]).evidence
    assert evidence is not None
    half = 0.5 * np.mean([example.maximum for example in evidence.top[:10]])
    assert score.details["thresholds"] == {"half": pytest.approx(half)}
    assert (score.headline, score.chance, len(score.outcomes)) == ("success_rate", 0.0, 10)
    hits = [o.value >= half for o in score.outcomes if isinstance(o, Number)]
    assert score.metrics["success_rate"].value == np.mean(hits)


# Metrics


def test_metrics_are_those_of_the_outcomes_at_the_agents_threshold(world: World) -> None:
    latent = world.planted.truth.family("token_set")[0]
    (score,) = world.scores([(latent, latent.pattern)])
    evidence = world.planted.materials(latent).evidence
    assert evidence is not None
    exemplars = Exemplars.of(evidence, world.subject.encode_text, seed=0)
    assert exemplars is not None
    scale = exemplars.scale
    assert score.details["thresholds"] == {"on": scale.on, "half": 0.5 * scale.strong}
    numbers = [o for o in score.outcomes if isinstance(o, Number)]
    assert [o.source for o in numbers] == ["activating"] * 10 + ["near_miss"] * 20
    found = values(score)
    for suffix, threshold in (("", scale.on), ("_half", 0.5 * scale.strong)):
        hit = np.mean([o.value >= threshold for o in numbers[:10]])
        rejected = np.mean([o.value < threshold for o in numbers[10:]])
        assert found[f"hit_rate{suffix}"] == hit
        assert found[f"rejection_rate{suffix}"] == rejected
        assert found[f"balanced_accuracy{suffix}"] == pytest.approx((hit + rejected) / 2)
    assert score.metrics["balanced_accuracy"].n == 30
    assert score.metrics["balanced_accuracy"].low is not None
    assert len(score.details["samples"]["near_miss"]) == 3


def test_a_text_that_cannot_be_measured_is_a_failure_alone(world: World, tmp_path: Path) -> None:
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


def test_a_pattern_of_nothing_gets_no_hit(world: World) -> None:
    (score,) = world.scores([(world.planted.latents[0], "nothing")])
    found = values(score)
    assert found["hit_rate"] == 0
    assert found["failures"] == 10
    assert found["rejection_rate"] >= 0.7
    assert all(isinstance(o, Number) for o in score.outcomes[10:])


def test_latents_without_examples_cost_nothing(world: World) -> None:
    dead = next(i for i in world.planted.truth.family("dead"))
    (score,) = world.scores([(dead, '"the"')])
    assert score.status == "too_few_examples"
    assert not score.outcomes


# Texts by patterns


def pattern_texts(
    world: World, shown: Materials, text: str, wanted: Wanted, seed: int = 0
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
def test_the_pattern_holds_in_activating_texts_alone(world: World, text: str) -> None:
    shown = world.planted.materials(world.planted.latents[0])
    written = pattern_texts(world, shown, text, Wanted(10, 20))
    assert len(written) == 30
    assert all(isinstance(one, str) for one in written), written
    assert len(set(written)) == 30
    held = [any(matches(parse(text), str(one).split())) for one in written]
    assert held == [True] * 10 + [False] * 20


def test_every_token_has_its_turn(world: World) -> None:
    shown = world.planted.materials(world.planted.latents[0])
    words = ["violin", "cello", "hammer", "wrench"]
    written = pattern_texts(world, shown, ", ".join(f'"{word}"' for word in words), Wanted(10, 0))
    assert all(any(word in str(text).split() for text in written) for word in words)


def test_texts_know_nothing_of_the_latent_and_depend_on_the_seed(world: World) -> None:
    shown = world.planted.materials(world.planted.latents[0])
    blind = replace(shown, evidence=None, background_maxima=None)
    one = pattern_texts(world, shown, '"zebra"', Wanted(5, 5))
    assert pattern_texts(world, blind, '"zebra"', Wanted(5, 5)) == one
    assert set(pattern_texts(world, shown, '"zebra"', Wanted(5, 5), seed=1)).isdisjoint(one)
    other = replace(shown, latent=LatentId(SAELENS, 1))
    assert set(pattern_texts(world, other, '"zebra"', Wanted(5, 5))).isdisjoint(one)


def test_scores_do_not_depend_on_order_or_company(world: World) -> None:
    pairs = [(latent, latent.pattern) for latent in world.planted.latents[:6]]
    together = world.scores(pairs)
    assert world.scores(pairs[::-1])[::-1] == together
    assert world.scores(pairs[3:4]) == together[3:4]


def test_what_is_no_pattern_is_refused(world: World) -> None:
    with pytest.raises(AutointerpError, match="not a pattern"):
        world.scores([(world.planted.latents[0], "words about rain")])


# A language model


def test_a_model_writes_from_the_explanation(world: World, tmp_path: Path) -> None:
    for latent in (world.planted.truth.family(f)[1] for f in ("previous", "token_set", "earlier")):
        author = Author()
        score = world.written(latent, tmp_path / str(latent.index), author)
        assert author.asked == [{"activating": 10, "near_misses": 20}]
        assert (score.status, score.judge) == ("scored", "llm")
        assert score.metrics["balanced_accuracy"].value >= 0.95
        first = score.details["samples"]["activating"][0][0]
        assert any(word in first for word in latent.rule.strengths)


def test_sage_asks_for_no_near_misses(world: World, tmp_path: Path) -> None:
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
    world: World, tmp_path: Path, spoil: Callable[[Any], Any]
) -> None:
    author = Author()
    score = world.written(world.planted.latents[0], tmp_path, lambda body: spoil(author(body)))
    assert score.status == "failed"
    assert "no text was measured" in str(score.reason)
    assert len([o for o in score.outcomes if isinstance(o, Failure)]) == 30
    assert score.metrics["balanced_accuracy"].value == 0
    assert score.metrics["best_case"].value == 1


def test_a_reply_is_repaired_once(world: World, tmp_path: Path) -> None:
    author = Author()

    def answer(body: Body) -> Any:
        if any("cannot be used" in m["content"] for m in body["messages"]):
            return author({**body, "messages": body["messages"][:2]})
        return "Certainly! Here they are."

    score = world.written(world.planted.latents[0], tmp_path, answer)
    assert score.metrics["balanced_accuracy"].value >= 0.95


# Configuration, a run, and wording


def test_configuration_says_who_writes() -> None:
    llm = {"model": "m", "base_url": "http://127.0.0.1:1/v1"}
    pattern, model = [{"kind": "generation"}], [{"kind": "generation", "by": "llm"}]
    needs = {"probes", "refused"}
    assert build_config({"scorers": pattern}).needs("score") == needs | {"encode"}
    with pytest.raises(AutointerpError, match=r"llms\.writer"):
        build_config({"scorers": model})
    found = build_config({"scorers": model, "llms": {"writer": llm}})
    assert found.needs("score") == needs | {"client", "templates"}
    words = {"explainer": {"kind": "single_pass"}, "llms": {"explainer": llm, "writer": llm}}
    with pytest.raises(AutointerpError, match=r"scorers\.0\.by: pattern reads .*by=llm"):
        build_config({**words, "scorers": pattern})
    with pytest.raises(ValueError, match="texts"):
        scorers.options({"kind": "generation", "texts": 3})


def test_a_run_without_a_language_model(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [
        *settings(planted, "alive:3", "alive:2"),
        "explainer={kind: pattern}",
        "scorers=[{kind: generation}, {kind: simulation, variant: sage}]",
    ]
    told = document(capsys, "run", "--run", str(tmp_path / "run"), *overrides)["scores"]
    assert told["generation"]["mean"] > told["generation"]["controls"]["shuffled"] + 0.2
    assert told["simulation"]["mean"] > told["simulation"]["controls"]["shuffled"] + 0.4
    assert told["simulation"]["chance"] == 0


def test_its_prompt_is_shown_without_measuring(world: World) -> None:
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

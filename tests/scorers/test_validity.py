"""Detection and fuzzing tell true explanations from others, on a subject whose truth is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from given_sets import with_test
from llm_asking import run
from llm_server import LLMServer
from oracle import Oracle
from oracle_world import OracleWorld
from planted import Family, PlantedLatent
from planted_coders import SAELENS, Planted

from autointerp.examples.sampling import SetBuilder
from autointerp.judges import Judge
from autointerp.judges.llm import LLMJudge, LLMJudgeOptions
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import Explanation, Label, LabelledSet, LatentId, Score
from autointerp.llm.templates import Templates
from autointerp.scorers.detection import DetectionScorer
from autointerp.scorers.fuzzing import FuzzingScorer

FAMILIES: tuple[Family, ...] = (
    "token_set", "single", "previous", "earlier", "either_or", "unless",
)  # fmt: skip
SEEN: tuple[Family, ...] = tuple(f for f in FAMILIES if f != "earlier")
SCORERS = {"detection": DetectionScorer, "fuzzing": FuzzingScorer}
Text = Callable[[PlantedLatent], str]


@dataclass(frozen=True)
class Sets:
    """The planted latents that can be explained, and their TEST windows."""

    latents: list[PlantedLatent]
    sets: Mapping[int, LabelledSet]

    def family(self, *names: Family) -> list[PlantedLatent]:
        return [latent for latent in self.latents if latent.family in names]


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Sets:
    found = OracleWorld.of(planted, tmp_path_factory.mktemp("store"))
    latents = found.truth.family(*FAMILIES)
    builder = SetBuilder(found.store, "test", [_id(latent) for latent in latents])
    return Sets(latents, {latent.index: builder.take(_id(latent))[1]() for latent in latents})


def _id(latent: PlantedLatent) -> LatentId:
    return LatentId(SAELENS, latent.index)


@pytest.fixture(params=["pattern", "llm"])
def scored(request: pytest.FixtureRequest, world: Sets, tmp_path: Path) -> Any:
    """Scores latents by texts, as the pattern judge and as an oracle behind a server have it."""
    kind: Literal["pattern", "llm"] = request.param

    async def work(judge: Judge, scorer: str, latents: Sequence[PlantedLatent], text: Text) -> Any:
        built = SCORERS[scorer](judge=judge)
        tasks = [
            built.score(
                Explanation(_id(latent), text(latent), "by hand"),
                with_test(_id(latent), world.sets[latent.index]),
            )
            for latent in latents
        ]
        return await asyncio.gather(*tasks)

    def score(scorer: str, latents: Sequence[PlantedLatent], text: Text | None = None) -> Any:
        if kind == "pattern":
            said = text or (lambda latent: latent.pattern)
            return asyncio.run(work(PatternJudge(), scorer, latents, said))
        said = text or (lambda latent: latent.explanation)

        async def asked(llms: Any) -> Any:
            options = LLMJudgeOptions(logprobs=False, texts_per_prompt=10, few_shot=False)
            client = llms.clients["judge"]
            judge = LLMJudge(options, client=client, templates=Templates())
            return await work(judge, scorer, latents, said)

        with LLMServer(answer=Oracle()) as server:
            return run(server, tmp_path, asked, timeout=60.0, concurrency=64)

    return score


def headlines(scores: Sequence[Score]) -> list[float]:
    assert {score.status for score in scores} == {"scored"}, [s.reason for s in scores]
    return [score.metrics[score.headline].value for score in scores]


@pytest.mark.parametrize("kind", SCORERS)
def test_true_explanations_score_high(scored: Any, world: Sets, kind: str) -> None:
    assert min(headlines(scored(kind, world.family(*SEEN)))) >= 0.95
    # What happened earlier may have happened before the 32 tokens that a judge is shown.
    earlier = headlines(scored(kind, world.family("earlier")))
    assert min(earlier) >= 0.75


@pytest.mark.parametrize("kind", SCORERS)
def test_another_latents_explanation_scores_chance(scored: Any, world: Sets, kind: str) -> None:
    latents = world.latents
    others = dict(zip((x.index for x in latents), [*latents[17:], *latents[:17]], strict=True))
    values = headlines(scored(kind, latents, lambda latent: others[latent.index].pattern))
    assert 0.45 <= np.mean(values) <= 0.55


@pytest.mark.parametrize("kind", SCORERS)
def test_half_of_an_either_or_latent_shows_in_recall(scored: Any, world: Sets, kind: str) -> None:
    def half(latent: PlantedLatent) -> str:
        words = list(latent.rule.strengths)
        return ", ".join(f'"{word}"' for word in words[: len(words) // 2])

    scores = scored(kind, world.family("either_or"), half)
    recalls = [score.metrics["recall"].value for score in scores]
    assert np.mean(recalls) <= 0.65


def test_a_too_broad_explanation_loses_precision_on_token_negatives(
    scored: Any, world: Sets
) -> None:
    latents = world.family("previous", "unless")
    true = scored("detection", latents)
    broad = scored("detection", latents, lambda latent: f'"{next(iter(latent.rule.strengths))}"')
    assert min(_precision(score) for score in true) >= 0.95
    assert max(_precision(score) for score in broad) <= 0.65


def _precision(score: Score) -> float:
    """Of the windows judged to be the latent's, the share that are: against ``token`` windows."""
    yes = [
        o.truth
        for o in score.outcomes
        if isinstance(o, Label) and o.label and o.source in ("activating", "token")
    ]
    return sum(yes) / len(yes)

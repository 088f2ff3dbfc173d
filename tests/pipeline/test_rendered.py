"""Rendering the prompts of a latent on the planted subject, without any language model."""

from __future__ import annotations

import asyncio

import pytest
from planted_coders import SAELENS, Planted

from autointerp.examples.harvest import collect
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions
from autointerp.examples.sampling import prepare
from autointerp.examples.store import ExampleStore
from autointerp.explainers.pattern import PatternExplainer
from autointerp.explainers.single_pass import SinglePassExplainer
from autointerp.judges.llm import LLMJudge
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import Explanation, LatentId
from autointerp.llm.templates import Templates
from autointerp.pipeline.rendered import PLACEHOLDER, Recorder, Rendered, render
from autointerp.pipeline.tasks import Explainer, NamedScorer
from autointerp.registry import scorers
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.loading import load_subject


@pytest.fixture(scope="module")
def store(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> ExampleStore:
    subject = load_subject(str(planted.files.model), device="cpu", context_length=97)
    coder = load_coder(planted.files.coders[SAELENS])
    attached = {SAELENS: Attached(coder, subject.hook_point("h.0"), None)}
    corpus = CorpusOptions(source=str(planted.corpus), tokens=60_000)
    made = collect(subject, attached, corpus, ExampleOptions(), tmp_path_factory.mktemp("store"))
    latents = [LatentId(SAELENS, latent.index) for latent in planted.truth.latents]
    prepare(made, subject, {SAELENS: (coder, attached[SAELENS].hook)}, latents)
    return made


def latent_of(planted: Planted, family: str) -> LatentId:
    index = next(x.index for x in planted.truth.latents if x.family == family)
    return LatentId(SAELENS, index)


def rendered(
    store: ExampleStore, latent: LatentId, text: str | None = None, with_llm: bool = True
) -> Rendered:
    recorder, templates = Recorder(), Templates()
    explainer: Explainer = PatternExplainer()
    judge: LLMJudge | PatternJudge = PatternJudge()
    if with_llm:
        explainer = SinglePassExplainer(client=recorder, templates=templates)
        judge = LLMJudge(client=recorder, templates=templates)
    detection = scorers.get("detection").implementation(judge=judge)
    judged = [NamedScorer("detection", detection, judge.name)]
    explanation = Explanation(latent, text, "by hand") if text else None
    return asyncio.run(render(store, latent, [explainer], judged, recorder, explanation))


def test_the_prompts_of_explainer_and_judge(store: ExampleStore, planted: Planted) -> None:
    latent = latent_of(planted, "token_set")
    found = rendered(store, latent, "cats and dogs")
    (question,) = found.explainer
    assert question.purpose == "explainer.single_pass"
    assert "<<" in question.messages[-1].content
    asked = found.scorers["detection"]
    assert len(asked) > 10
    assert all("cats and dogs" in request.messages[-1].content for request in asked)
    assert found == rendered(store, latent, "cats and dogs")


def test_without_an_explanation_a_placeholder_is_judged(
    store: ExampleStore, planted: Planted
) -> None:
    found = rendered(store, latent_of(planted, "token_set"))
    assert PLACEHOLDER in found.scorers["detection"][0].messages[-1].content


def test_dead_latents_and_parts_without_a_model_have_no_prompts(
    store: ExampleStore, planted: Planted
) -> None:
    dead = rendered(store, latent_of(planted, "dead"))
    pattern = rendered(store, latent_of(planted, "token_set"), with_llm=False)
    assert (dead.explainer, dead.scorers) == ((), {"detection": ()})
    assert (pattern.explainer, pattern.scorers) == ((), {"detection": ()})

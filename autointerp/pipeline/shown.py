"""The JSON document of one latent: all that a run knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from autointerp.examples.sampling import evidence, labelled_set
from autointerp.examples.store import ExampleStore
from autointerp.latents import AutointerpError, Example, LatentId, Metric, Score
from autointerp.pipeline.figures import effects
from autointerp.pipeline.own_texts import EXPLAINER, counting
from autointerp.pipeline.published import NO_STORE, Examples, PublishedExamples
from autointerp.pipeline.repeats import REPEAT
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import TRUE, Scored
from autointerp.pipeline.standings import SELECT
from autointerp.pipeline.widened import widened

Document = dict[str, Any]


def latent_document(results: Results, examples: Examples | None, latent: LatentId) -> Document:
    """The document of ``show``: all that the run knows of one latent.

    ``notice`` says what is amiss with the examples, if anything is.

    Raises:
        AutointerpError: if the run has not looked at the latent.
    """
    explained = results.explanations(latent=latent, details=True)
    if not explained:
        run, known = results.path.parent, _one(results, latent)
        raise AutointerpError(f"{latent} is not among the latents of {run}; {known}")
    inputs = {e.explainer: e for e in explained if e.kind == "input"}
    own = counting(inputs, results.noted(EXPLAINER)) or explained[0]
    output = next((e for e in explained if e.kind == "output"), None)
    ids = {own.id, output.id if output else None}
    noted = effects(results)
    scores = [
        _widened(s, noted.get(s.score.scorer, 1.0))
        for s in results.scores(latent=latent)
        if s.score.explanation in ids
    ]
    return {
        "latent": str(latent),
        "status": own.status,
        "reason": own.reason,
        "explanation": own.text,
        "explainer": own.explainer,
        "components": list(own.components),
        "confidence": own.confidence,
        "output_explanation": (output.text or None) if output else None,
        "pattern": inputs["pattern"].text if "pattern" in inputs else None,
        "scores": {
            s.score.scorer: _score(s.score, scores)
            for s in scores
            if s.control == TRUE and s.score.scorer != SELECT
        },
        **_windows(examples, latent),
        "hypotheses": list(own.details.get("hypotheses", ())),
        "probes": list(own.details.get("probes", ())),
    }


def _one(results: Results, like: LatentId) -> str:
    """A latent of a run: an explained one if there is any, and then of the same coder."""
    query = (
        "SELECT coder, latent FROM explanations"
        " ORDER BY status != 'explained', coder != ?, coder, latent LIMIT 1"
    )
    found = next(results.query(query, (like.coder,)), None)
    return f"one that is: {LatentId(*found)}" if found else "none is explained yet"


def _windows(examples: Examples | None, latent: LatentId) -> Document:
    """What is known of the latent's activations on the corpus."""
    if examples is None:
        return {"statistics": {}, "examples": [], "notice": NO_STORE}
    if isinstance(examples, PublishedExamples):
        return examples.document(latent)
    return _stored(examples, latent)


def _stored(store: ExampleStore, latent: LatentId) -> Document:
    """The statistics of a latent of an example store, and windows that explain and test it."""
    shown = evidence(store, latent)
    test = labelled_set(store, latent, "test", shown)
    examples = [(e, "explain") for e in shown.top[:10]]
    examples += [(item.example, "test") for item in test.items if item.truth][-10:]
    s = shown.statistics
    return {
        "statistics": {
            "density": s.density,
            "max": s.maximum,
            "mean": s.mean,
            "firing_count": s.firing_count,
            "quantiles": [round(float(q), 6) for q in s.quantiles],
            "top_tokens": [list(pair) for pair in s.top_tokens],
            "logit_lens": list(shown.logit_lens),
        },
        "examples": [_example(example, split) for example, split in examples],
        "notice": None,
    }


def _widened(scored: Scored, effect: float) -> Scored:
    metrics = widened(scored.score.metrics, effect)
    return replace(scored, score=replace(scored.score, metrics=metrics))


def _score(score: Score, scores: Sequence[Scored]) -> Document:
    """One scorer's score; ``scores`` are all of the same explanation, controls among them."""
    headline = score.metrics.get(score.headline)
    value = headline or Metric(float("nan"))
    controls = {
        s.control: s.score.metrics[s.score.headline].value
        for s in scores
        if s.score.scorer == score.scorer
        and s.control not in (TRUE, REPEAT)
        and s.score.headline in s.score.metrics
    }
    return {
        "metric": score.headline,
        "value": value.value if headline else None,
        "low": value.low,
        "high": value.high,
        "chance": score.chance,
        "status": score.status,
        "reason": score.reason,
        "judge": score.judge,
        "metrics": {name: m.value for name, m in score.metrics.items()},
        "controls": controls,
    }


def _example(example: Example, split: str) -> Document:
    return {
        "tokens": example.tokens,
        "activations": [round(float(a), 4) for a in example.activations],
        "document": example.document,
        "start": example.start,
        "split": split,
    }

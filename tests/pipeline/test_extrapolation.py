"""From a sample's costs to a run's: what each row stands for, and how sure that is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autointerp.config import load_config
from autointerp.latents import Cost, Explanation, LatentId, Metric, Score
from autointerp.llm.rehearsal import Rehearsal
from autointerp.pipeline.controls import LIMIT
from autointerp.pipeline.extrapolation import GUESSED, WIDEST, Sample, Totals, parts_of
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored

LLM = "llms={judge: {model: m, base_url: 'http://127.0.0.1:1/v1'}, explainer: {model: m}}"
CONFIG = load_config(
    None, [LLM, "explainer={kind: single_pass}", "scorers=[{kind: detection, judge: llm}]"]
)


def totals(folder: Path, sampled: int, planned: int, explain: float, spread: float = 0) -> Totals:
    """Each explanation takes about ``explain`` tokens, each score and each control 100."""
    latents = [LatentId("layers.0", index) for index in range(sampled)]
    rng = np.random.default_rng(0)
    with Results.open(folder / "results.sqlite") as results:
        for latent in latents:
            tokens = max(1, round(explain + spread * float(rng.normal())))
            cost = Cost(requests=1, prompt_tokens=tokens)
            explanation = Explanation(latent, "x", "single_pass", cost=cost)
            results.put_explanation(explanation)
            score = Score(
                latent=latent, explanation=explanation.id, scorer="detection", judge="llm",
                headline="m", chance=0.5, metrics={"m": Metric(0.5)}, outcomes=(),
                cost=Cost(requests=2, prompt_tokens=100),
            )  # fmt: skip
            results.put_scores([Scored(score, control) for control in ("", "empty")])
        sample = Sample(latents, latents, planned)
        parts = parts_of(results, CONFIG, sample)
    rehearsal = Rehearsal(CONFIG.llms, folder / "journal.sqlite", "run")
    for model in rehearsal.models.values():
        kind = "detection" if model is rehearsal.models["judge"] else "single_pass"
        model.asked[kind] = model.paid[kind] = Cost(requests=1, prompt_tokens=1)
    return Totals(parts, rehearsal.models, sample)


def test_a_sample_stands_for_all_and_controls_for_as_many_as_there_are(tmp_path: Path) -> None:
    told = totals(tmp_path, sampled=10, planned=1000, explain=50)
    assert told.by_part("requests") == pytest.approx({
        "explain: single_pass": 1000, "score: detection": 2000,
        "score: detection controls": 2 * LIMIT,
    })  # fmt: skip
    assert told.by_model("requests") == pytest.approx(
        {"explainer": 1000, "judge": 2000 + 2 * LIMIT}
    )
    low, middle, high = told.interval("prompt_tokens")
    assert middle == pytest.approx(1000 * (50 + 100) + 100 * LIMIT)
    assert (low, high) == pytest.approx(((1 - GUESSED) * middle, (1 + GUESSED) * middle))


def test_what_others_paid_for_is_left_out(tmp_path: Path) -> None:
    told = totals(tmp_path, sampled=10, planned=1000, explain=50)
    told.models["judge"].paid.clear()
    assert told.by_model("requests") == pytest.approx({"explainer": 1000, "judge": 0})


def test_a_part_is_dealt_out_by_what_it_asked_itself(tmp_path: Path) -> None:
    told = totals(tmp_path, sampled=10, planned=1000, explain=50)
    judge = told.models["judge"]
    # Of explaining one request in four; of scoring far more, which says nothing of explaining.
    told.models["explainer"].asked["single_pass"] = Cost(requests=30, prompt_tokens=30)
    told.models["explainer"].paid["single_pass"] = Cost(requests=30, prompt_tokens=30)
    judge.asked["single_pass"] = judge.paid["single_pass"] = Cost(requests=10, prompt_tokens=10)
    judge.asked["detection"] = judge.paid["detection"] = Cost(requests=5000, prompt_tokens=5000)
    assert told.by_model("requests") == pytest.approx(
        {"explainer": 750, "judge": 250 + 2000 + 2 * LIMIT}
    )
    for quantity in ("requests", "prompt_tokens"):
        assert sum(told.by_model(quantity).values()) == pytest.approx(
            sum(told.by_part(quantity).values())
        )


def test_a_whole_plan_has_no_sampling_error_and_a_small_sample_a_large_one(tmp_path: Path) -> None:
    errors = []
    for number, sampled in enumerate((5, 40, 80)):
        folder = tmp_path / str(number)
        folder.mkdir()
        told = totals(folder, sampled, planned=80, explain=1000, spread=800)
        errors.append(told.sampling_error("prompt_tokens"))
        low, middle, high = told.interval("prompt_tokens")
        assert (1 - WIDEST) * middle <= low <= high <= (1 + WIDEST) * middle
    assert errors[0] > WIDEST > errors[1] > errors[2] == 0

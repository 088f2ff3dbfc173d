"""A run is added to: what is there stays as it is, and only what is new is worked on."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from planted_coders import Planted
from small_run import document, left_alone, settings

from autointerp.latents import Explanation, Score
from autointerp.pipeline.results import Results
from autointerp.registry import scorers
from autointerp.scorers import Materials

OTHER = "test_other"


@pytest.fixture(scope="module")
def base(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return left_alone(tmp_path_factory.mktemp("base"), settings(planted))


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "run"))


def rows(run: Path) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Every row of a run as it is stored, cost and all, by its key."""
    connection = sqlite3.connect(run / "results.sqlite")
    explanations = {row[:4]: row for row in connection.execute("SELECT * FROM explanations")}
    scores = {row[:5]: row for row in connection.execute("SELECT * FROM scores")}
    connection.close()
    return explanations, scores


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Explanation | None]:
    """What the detection scorer was asked to score."""
    kind = scorers.get("detection").implementation
    calls: list[Explanation | None] = []
    score = kind.score

    async def counted(self: Any, explanation: Explanation | None, materials: Materials) -> Score:
        calls.append(explanation)
        done: Score = await score(self, explanation, materials)
        return done

    monkeypatch.setattr(kind, "score", counted)
    return calls


def test_a_finished_run_asks_nothing(
    run: Path, asked: list[Explanation | None], capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(run)
    document(capsys, "run", "--run", str(run))
    assert asked == []
    assert rows(run) == before


def test_more_latents_leave_the_rows_there_alone(
    run: Path,
    planted: Planted,
    asked: list[Explanation | None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    explanations, scores = rows(run)
    found = document(capsys, "run", "--run", str(run), *settings(planted, a="alive:7"))
    assert found["latents"] == 11
    more_explanations, more_scores = rows(run)
    assert {key: more_explanations[key] for key in explanations} == explanations
    assert {key: more_scores[key] for key in scores} == scores
    new = {key[:2] for key in more_explanations} - {key[:2] for key in explanations}
    assert len(new) == 3
    added = {key for key in more_scores if key not in scores}
    assert len(asked) == len(added)
    assert {key[:2] for key in added} <= new | {key[:2] for key in explanations}
    # An old latent gets no more than a control that nobody could give it before.
    assert all(key[4] for key in added if key[:2] not in new)


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scorer of another name that does as detection does."""
    detection = scorers.get("detection")
    scorers.names()
    monkeypatch.setitem(scorers._kinds, OTHER, detection)


@pytest.mark.usefixtures("other")
def test_another_scorer_scores_what_is_explained(
    run: Path, asked: list[Explanation | None], capsys: pytest.CaptureFixture[str]
) -> None:
    explanations, scores = rows(run)
    both = f"scorers=[{{kind: detection}}, {{kind: {OTHER}}}]"
    found = document(capsys, "run", "--run", str(run), both)
    more_explanations, more_scores = rows(run)
    assert more_explanations == explanations
    assert {key: more_scores[key] for key in scores} == scores
    added = {key for key in more_scores if key not in scores}
    assert len(asked) == len(added) == len(scores)
    assert {key[3] for key in added} == {OTHER}
    assert set(found["scores"]) == {"detection", OTHER}
    assert found["scores"][OTHER]["mean"] == found["scores"]["detection"]["mean"]


def test_fewer_latents_take_nothing_away(
    run: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(run)
    document(capsys, "run", "--run", str(run), *settings(planted, a="alive:2"))
    assert rows(run) == before


def test_a_failed_latent_is_tried_again_alone_and_when_asked(
    run: Path, asked: list[Explanation | None], capsys: pytest.CaptureFixture[str]
) -> None:
    explanations, _ = rows(run)
    with Results.open(run / "results.sqlite") as results:
        first = next(e for e in results.explanations() if e.status == "explained")
        results.put_explanation(
            Explanation(first.latent, "", first.explainer, status="failed", reason="no luck")
        )
    assert document(capsys, "run", "--run", str(run), code=1)["failed"] == 1
    assert document(capsys, "run", "--run", str(run), "--retry-failed")["failed"] == 0
    again, _ = rows(run)
    kept = {key for key in explanations if key[:2] != (first.latent.coder, first.latent.index)}
    assert {key: again[key] for key in kept} == {key: explanations[key] for key in kept}
    assert len(again) == len(explanations)
    assert asked == []

"""The results file: what goes in comes out, and settings are held."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_outcomes import outcomes

from autointerp.latents import (
    AutointerpError,
    Cost,
    Explanation,
    Label,
    LatentId,
    Metric,
    Outcome,
    Score,
)
from autointerp.pipeline.database import SCHEMA_VERSION, check_version
from autointerp.pipeline.plan import Done
from autointerp.pipeline.results import Results
from autointerp.pipeline.retries import retry_of
from autointerp.pipeline.rows import TRUE, Scored, pack_outcomes, unpack_outcomes

LATENT = LatentId("layers.1", 3)


@given(st.lists(outcomes(), max_size=30))
def test_outcomes_survive_packing_in_order(packed: list[Outcome]) -> None:
    assert unpack_outcomes(pack_outcomes(packed)) == packed


def test_packed_outcomes_are_compact() -> None:
    labels = [Label(i % 2 == 0, i % 3 == 0, None, "random", i % 10) for i in range(200)]
    assert len(pack_outcomes(labels)) < 600


def test_requests_of_outcomes_take_little_room() -> None:
    names = [hashlib.blake2b(bytes([i]), digest_size=8).hexdigest() for i in range(20)]
    plain = [Label(i % 2 == 0, i % 3 == 0, None, "random", i % 10) for i in range(100)]
    named = [label._replace(request=names[i // 5]) for i, label in enumerate(plain)]
    assert unpack_outcomes(pack_outcomes(named)) == named
    assert len(pack_outcomes(named)) - len(pack_outcomes(plain)) < 400


def test_a_file_of_the_version_before_is_read_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with Results.open(path) as results:
        results.put_scores([Scored(score())])
        results._connection.execute("UPDATE meta SET value = '2' WHERE key = 'schema'")
    with Results.read(path) as results:
        assert [s.score.scorer for s in results.scores(outcomes=True)] == ["detection"]
    with Results.open(path) as results:
        results.put_scores([Scored(score(0.5), "shuffled")])
        assert check_version(results._connection, path) == SCHEMA_VERSION


def score(value: float = 0.8, status: str = "scored") -> Score:
    return Score(
        latent=LATENT,
        explanation=f"{LATENT}:input:pattern",
        scorer="detection",
        judge="pattern",
        headline="balanced_accuracy",
        chance=0.5,
        metrics={"balanced_accuracy": Metric(value, 0.7, 0.9, 100)},
        outcomes=[Label(True, False, 0.25, "activating", 4)],
        status=status,  # type: ignore[arg-type]
        details={"dropped": 2},
    )


def test_rows_come_back_equal(tmp_path: Path) -> None:
    explanation = Explanation(LATENT, '"a", "b"', "pattern", components=("x",), cost=Cost(1, 2))
    explanation = replace(explanation, details={"probes": [{"text": "a\n", "level": 3}]})
    with Results.open(tmp_path / "r.sqlite") as results:
        results.put_explanation(explanation)
        results.put_scores([Scored(score()), Scored(score(0.5), "shuffled")])
    with Results.read(tmp_path / "r.sqlite") as results:
        assert results.explanations(details=True) == [explanation]
        assert results.explanations(latent=LATENT) == [replace(explanation, details={})]
        assert results.explanations(latent=LatentId("other", 1)) == []
        assert results.explanations("other") == []
        assert list(results.scores("detection", LATENT, outcomes=True)) == [
            Scored(score()),
            Scored(score(0.5), "shuffled"),
        ]
        assert [s.score.outcomes for s in results.scores()] == [(), ()]


def test_failed_scores_are_done_unless_they_are_made_again(tmp_path: Path) -> None:
    failed = score(status="failed")
    key = (failed.explanation, failed.scorer, TRUE)
    with Results.open(tmp_path / "r.sqlite") as results:
        assert key not in Done(results)
        results.put_scores([Scored(failed)])
        again = retry_of(results, "score", ("score",))
        assert key in Done(results)
        assert key not in Done(results, again)
        results.put_scores([Scored(score())])
        assert key in Done(results, retry_of(results, "score", ("score",)))
        assert len(list(results.scores())) == 1


def test_settings_join_but_never_change_once_there_are_rows(tmp_path: Path) -> None:
    with Results.open(tmp_path / "r.sqlite") as results:
        results.hold_settings({"run.seed": 0, "wrong": 1})
        results.hold_settings({"run.seed": 1})  # no rows yet
        assert results.settings() == {"run.seed": 1}
        results.put_explanation(Explanation(LATENT, "x", "pattern"))
        results.hold_settings({"run.seed": 1, "scorers.fuzzing.n": 5})
        with pytest.raises(AutointerpError, match=r"run\.seed = 1, and .* says 2"):
            results.hold_settings({"run.seed": 2})
        assert results.settings() == {"run.seed": 1, "scorers.fuzzing.n": 5}


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AutointerpError, match="no results"):
        Results.read(tmp_path / "absent.sqlite")
    (tmp_path / "text.sqlite").write_text("not a database, though long enough to look at" * 9)
    with pytest.raises(AutointerpError, match="not a results file"):
        Results.read(tmp_path / "text.sqlite")
    with Results.open(tmp_path / "old.sqlite") as results:
        results._connection.execute("UPDATE meta SET value = '99'")
    with pytest.raises(AutointerpError, match="schema version 99"):
        Results.open(tmp_path / "old.sqlite")


def beside(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


def test_nothing_stays_beside_the_file_whoever_closes_last(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    results = Results.open(path)
    with Results.read(path) as reader:
        results.put_explanation(Explanation(LATENT, "x", "pattern"))
        results.close()
        assert len(reader.explanations()) == 1
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.put_explanation(Explanation(LATENT, "y", "pattern"))
    assert beside(path) == ["r.sqlite"]
    with Results.read(path) as reader:
        assert reader.explanations()[0].text == "x"
    assert beside(path) == ["r.sqlite"]


@pytest.mark.usefixtures("without_root_powers")
def test_a_directory_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "50% of it?" / "r.sqlite"
    path.parent.mkdir()
    with Results.open(path) as results:
        results.put_explanation(Explanation(LATENT, "x", "pattern"))
    path.parent.chmod(0o500)
    try:
        with Results.read(path) as reader:
            assert reader.explanations()[0].text == "x"
    finally:
        path.parent.chmod(0o700)

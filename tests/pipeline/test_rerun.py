"""Reruns: some latents of a run explained and scored once more, and how far the two agree."""

from __future__ import annotations

import json
import random
import re
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from embedding_model import CountedWords
from llm_models import Model, plays_a_role
from llm_runs import EXPLAINERS, Recorder, world
from llm_server import Body
from planted_coders import Planted
from small_run import contents, document, left_alone, refusal, settings

from autointerp.cli import main
from autointerp.latents import LatentId
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import TRUE

RERUN = ("control", "--kind", "rerun")
SHORT = "explainer={kind: pattern, max_words: 2}"  # too short for some latents, so that scores vary
_QUOTED = re.compile(r'"([^"]+)"')


def again(capsys: pytest.CaptureFixture[str], run: Path, *chosen: str, code: int = 0) -> Any:
    """The document of a rerun."""
    capsys.readouterr()
    return document(capsys, *RERUN, str(run), *chosen, code=code)


def texts(run: Path) -> dict[LatentId, str]:
    return {e.latent: e.text for e in contents(run)[0]}


@pytest.fixture(scope="module")
def patterns(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that asks nobody."""
    return left_alone(tmp_path_factory.mktemp("run"), [*settings(planted, "0-5", "0-2"), SHORT])


def test_patterns_are_found_again_over_the_same_examples(
    patterns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = again(capsys, patterns, "--latents", "3")
    rerun = Path(few["run"])
    assert rerun == patterns.with_name("run-rerun")
    assert (rerun / "examples").samefile(patterns / "examples")
    assert sum(few["by_status"].values()) == 3
    first = texts(rerun)
    made = again(capsys, patterns)
    found = texts(rerun)
    assert len(found) > 3
    assert first.items() <= found.items() <= texts(patterns).items()
    figures = made["rerun"]["scores"]["detection"]
    assert figures["n"] == len(found)
    assert [figures["icc"], *figures["icc_interval"]] == pytest.approx([1, 1, 1])
    assert made["rerun"]["texts"] == {"n": made["explained"], "equal": 1}
    assert {s.control for s in contents(rerun)[1]} == {TRUE}
    items = document(capsys, "compare", str(patterns), str(rerun))["scores"]["detection"]["items"]
    assert items["n"] > 0
    assert (items["right_only_in_a"], items["right_only_in_b"]) == (0, 0)


def test_the_run_tells_of_its_rerun(patterns: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = again(capsys, patterns)
    assert document(capsys, "report", str(patterns))["rerun"] == made["rerun"]
    page = (patterns / "report.html").read_text("utf-8")
    assert "intra-class correlation tells (1: wholly): detection 1.000 (1.000 to 1.000)" in page
    assert main(["run", "--run", str(patterns)]) == 0
    printed = capsys.readouterr().out
    assert "rerun: intra-class correlation: detection 1.000 (1.000 to 1.000)" in printed


@pytest.mark.slow
def test_texts_are_compared_by_meaning_where_there_is_an_embedder(
    planted: Planted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = "autointerp.pipeline.building.load_embedder"
    monkeypatch.setattr(made, lambda **_: CountedWords())
    chosen = [
        *settings(planted, "0-2", "0-2"),
        "examples.semantic=true",
        "examples.background=300",
        f"embedder.model={planted.files.model}",
    ]
    found = again(capsys, left_alone(tmp_path, chosen))["rerun"]["texts"]
    assert found["cosine"] == pytest.approx(1)
    assert found["others"] < 0.9


def test_what_cannot_be_done_again_is_refused_in_one_line(
    patterns: Path, collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(run: Path, *chosen: str) -> str:
        return refusal(capsys, [*RERUN, str(run), *chosen])

    assert "too few to correlate" in told(patterns, "--latents", "1")
    other = ["control", str(patterns), "--kind", "random_coder", "--latents", "3"]
    assert "--latents goes with --kind rerun" in refusal(capsys, other)
    assert "has no scores yet" in told(collected)
    file = tmp_path / "theirs.jsonl"
    theirs = [{"latent": f"a/{i}", "explanation": '"the"'} for i in range(3)]
    file.write_text("\n".join(map(json.dumps, theirs)))
    elsewhere = Path(shutil.copytree(collected, tmp_path / "elsewhere"))
    main(["score", "--json", "--run", str(elsewhere), "--explanations", str(file)])
    assert "only what that wrote can be written again" in told(elsewhere)
    taken = Path(shutil.copytree(patterns, tmp_path / "run"))
    (tmp_path / "run-rerun" / "examples").mkdir(parents=True)
    assert "examples of its own" in told(taken)


class Moody(Model):
    """Explains with one of the words that it sees marked, another every time that it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, body: Body) -> Any:
        said = super().__call__(body)
        if plays_a_role(body) or "explanations" not in said:
            return said
        question = json.dumps(body["messages"])
        with self._lock:
            self.asked[question] += 1
            drawn = random.Random(f"{self.asked[question]} {question}")
        words = _QUOTED.findall(said["explanations"][0]["description"])
        text = f'"{drawn.choice(words)}"' if words else "nothing"
        return {"explanations": [{"description": text, "label": text}]}


@pytest.mark.usefixtures("at_once")
def test_a_language_model_is_asked_anew_and_only_once(
    tmp_path: Path, planted: Planted, collected: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = world(tmp_path / "world", planted, collected)
    strongest = "explainer={kind: single_pass, exemplars: top}"  # the same, whatever the seed
    with Recorder(Moody()) as server:
        assert main(one.command(server, strongest, "latents={a: 0-5}")) == 0
        before = len(server.seen)
        made = again(capsys, one.run)
        asked = [seen.raw for seen in server.seen[before:]]
        assert made["cost"]["requests"] == len(asked) > 0
        assert again(capsys, one.run)["rerun"] == made["rerun"]
        assert len(server.seen) == before + len(asked)
    explaining = [raw for raw in asked if b'"title": "Explanations"' in raw]
    assert len(explaining) == sum(made["by_status"].values())
    assert set(explaining) <= {seen.raw for seen in server.seen[:before]}
    assert made["rerun"]["texts"]["equal"] < 1
    figures = made["rerun"]["scores"]["detection"]
    low, high = figures["icc_interval"]
    assert low < figures["icc"] < high
    assert figures["icc"] < 1


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_a_rerun_stops_at_its_budget_and_goes_on(
    tmp_path: Path, planted: Planted, collected: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = world(tmp_path / "world", planted, collected)
    with Recorder(Model()) as server:
        assert main(one.command(server, EXPLAINERS["single_pass"])) == 0
        before = len(server.seen)
        config = one.run / "config.yaml"
        whole = config.read_text("utf-8")
        config.write_text(whole.replace("prompt_tokens: null", "prompt_tokens: 20000"))
        stopped = again(capsys, one.run, code=1)
        assert "rerun" not in stopped
        some = len(server.seen) - before
        config.write_text(whole)
        done = again(capsys, one.run)
        assert 0 < some < len(server.seen) - before == done["cost"]["requests"]
    assert done["rerun"]["scores"]["detection"]["n"] >= 2
    with Results.read(one.run / "results.sqlite") as results:
        assert results.noted("rerun") == done["rerun"]

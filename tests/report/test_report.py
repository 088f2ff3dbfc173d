"""`autointerp report`: one file, of a real run and of runs written row by row."""

from __future__ import annotations

import json
import re
import tracemalloc
from contextlib import redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from planted_coders import Planted
from small_run import document, left_alone, refusal, settings
from synthetic_run import EXPLAINER, NASTY, explained, scored, write_run

from autointerp.cli import main
from autointerp.latents import LatentId, Metric
from autointerp.pipeline.results import Results
from autointerp.pipeline.summary import summarise
from autointerp.report.static.figures import tallied
from autointerp.report.tokens import legible


@pytest.fixture(scope="module")
def finished(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    asked = ["explainer={kind: agent}", "scorers=[{kind: detection}, {kind: fuzzing}]"]
    return left_alone(folder, [*settings(planted, "alive:3", "alive:2"), *asked])


@pytest.fixture(scope="module")
def figures(finished: Path) -> Any:
    """The document of the report, which is then in the run."""
    with redirect_stdout(StringIO()) as out:
        assert main(["report", str(finished), "--json"]) == 0
    return json.loads(out.getvalue())


class Page(HTMLParser):
    """A page's elements, what they refer to, and what is read of it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text("utf-8")
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.shown = ""
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.shown += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.attributes if name == tag]

    @property
    def ids(self) -> list[str]:
        return [of["id"] or "" for _, of in self.attributes if "id" in of]


def report(run: Path, *arguments: str) -> Page:
    assert main(["report", str(run), *arguments]) == 0
    return Page(run / "report.html")


@pytest.fixture(scope="module")
def page(finished: Path, figures: Any) -> Page:
    assert figures["report"] == str(finished / "report.html")
    return Page(finished / "report.html")


def test_the_file_needs_nothing_but_itself(page: Page) -> None:
    assert "script" not in {tag for tag, _ in page.attributes}
    assert not re.findall(r"https?://|url\((?!#)|@import", page.source)
    for _, attributes in page.attributes:
        for name in ("href", "src", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert page.source.lstrip().startswith("<!doctype html>")


def test_ids_are_unique_and_what_refers_to_them_finds_them(page: Page) -> None:
    ids = page.ids
    assert len(ids) == len(set(ids))
    for _, attributes in page.attributes:
        named = (attributes.get("aria-labelledby") or "").split()
        named += [(attributes.get("href") or "#")[1:]] if attributes.get("href") else []
        assert set(named) <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page.source)) <= set(ids)


def test_plots_and_tables_are_told_in_words(page: Page) -> None:
    drawings = page.of("svg")
    assert len(drawings) >= 5
    assert all(d["role"] == "img" and d["aria-labelledby"] for d in drawings)
    assert len(page.of("figure")) == len(drawings) == page.shown.count("Figures of:")
    assert all(cell.get("scope") in ("row", "col") for cell in page.of("th"))
    assert page.of("main")
    assert page.of("nav")
    assert [d.get("lang") for d in page.of("html")] == ["en"]


def test_no_stand_in_colour_is_left(page: Page) -> None:
    assert "currentColor" in page.source
    assert "var(--blue)" in page.source
    assert "#0101" not in page.source


def test_figures_are_those_of_status(
    finished: Path, figures: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    status = document(capsys, "status", str(finished))
    for name in ("scores", "cost", "by_status", "latents", "explained"):
        assert figures[name] == status[name]
    for scorer, known in status["scores"].items():
        found = figures["distributions"][scorer]
        assert found["true"]["n"] == known["n"] == sum(found["true"]["counts"])
        assert found["true"]["mean"] == pytest.approx(known["mean"])
        means = {control: of["mean"] for control, of in found["controls"].items()}
        assert means == pytest.approx(known["controls"])
    assert sum(n for of in figures["coverage"].values() for n in of.values()) == status["latents"]


def test_what_the_agent_tested_is_counted_and_shown(
    finished: Path, figures: Any, page: Page
) -> None:
    tested = figures["tested"]
    with Results.read(finished / "results.sqlite") as results:
        details = [e.details for e in results.explanations("agent", details=True)]
    read = [d for d in details if d.get("probes")]
    assert tested["probes"] <= sum(len(d["probes"]) for d in read)
    assert tested["hypotheses"]["confirmed"] > 0
    assert sum(tested["predictions"]["on"].values()) > 0
    assert "What the agent tested" in page.shown
    assert "measured on" in page.shown


def test_latents_are_shown_with_their_texts(
    finished: Path, figures: Any, page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    best = figures["best"][0]["latent"]
    shown = document(capsys, "show", str(finished), best)
    assert legible(shown["explanation"]) in page.shown
    assert "".join(shown["examples"][0]["tokens"])[:20].strip().split()[0] in page.shown
    assert any("peak" in (mark.get("class") or "") for mark in page.of("mark"))
    assert "peaks most often on:" in page.shown


def test_a_share_of_nought_is_told_from_latents_that_are_not_explained(page: Page) -> None:
    told = " ".join(page.shown.split())
    assert "latents are shown to be above 0.7, at a false-discovery rate of 5 %." in told
    assert "on how many texts it was tested on as well as on its score" in told


def test_latents_without_a_score_are_told_by_what_was_missing(tmp_path: Path) -> None:
    told, empty = explained(0), explained(1, "nothing", status="no_explanation")
    few = [explained(i, "", status="too_few_examples", reason="r") for i in (2, 3)]
    rare = scored(empty, 0.5)
    rare = replace(rare, score=replace(rare.score, status="too_few_examples", reason="r"))
    page = report(write_run(tmp_path / "run", [told, empty, *few], [scored(told, 0.9), rare]))
    line = (
        "detection: 1 of 4 latents have a score; without a text to test: too few examples 2;"
        " of the others: too few examples 1."
    )
    assert line in page.shown
    assert "controls are of a sample of the explained latents" in page.shown


def test_where_a_text_comes_from_is_shown_with_it(tmp_path: Path) -> None:
    why = "no hypothesis was confirmed; the text is the pattern explainer's"
    one, other = explained(0, reason=why), explained(1)
    page = report(write_run(tmp_path / "run", [one, other], [scored(one, 0.9), scored(other, 0.8)]))
    assert page.shown.count(why) == 1


def test_any_explanation_comes_through(tmp_path: Path) -> None:
    nasty = [explained(i, text, components=(text,)) for i, text in enumerate(NASTY)]
    page = report(write_run(tmp_path / "run", nasty, [scored(e, 0.9) for e in nasty]))
    for text in NASTY:
        assert legible(text) in page.shown
    assert len(page.of("html")) == len(page.of("main")) == 1
    assert not page.of("b")


def test_names_of_coders_and_reasons_are_escaped(tmp_path: Path) -> None:
    coder = "<i>$x$</i> & \x07"
    bad = explained(1, "", coder, status="failed", reason="<u>no</u> answer: 5")
    page = report(write_run(tmp_path / "run", [explained(0, "t", coder), bad]))
    assert not page.of("i")
    assert not page.of("u")
    assert legible(coder) in page.shown
    assert "<u>no</u> answer" in page.shown


def written(folder: Path, latents: int) -> Path:
    """A run whose scores are drawn at random."""
    rng = np.random.default_rng(0)
    explanations = [explained(i, f"text {i}", confidence=rng.random()) for i in range(latents)]
    scores = [
        scored(e, round(float(v), 3), scorer, metrics=extra)
        for e in explanations
        for scorer, v in zip(("detection", "fuzzing"), rng.uniform(0.4, 1, 2), strict=True)
        for extra in [{f"recall_decile_{d}": Metric(v * d / 9) for d in range(10)}]
    ]
    return write_run(folder / "run", explanations, scores)


def test_best_worst_and_surprising(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = written(tmp_path, 60)
    figures = document(capsys, "report", str(run))
    with Results.read(run / "results.sqlite") as results:
        values: dict[str, list[float]] = {}
        for found in results.scores():
            value = found.score.metrics["balanced_accuracy"].value
            values.setdefault(str(found.score.latent), []).append(2 * value - 1)
        confidence = {str(e.latent): e.confidence or 0.0 for e in results.explanations()}
    means = {latent: sum(v) / 2 for latent, v in values.items()}
    order = sorted(means, key=means.__getitem__)
    assert [p["latent"] for p in figures["best"]] == order[::-1][:6]
    assert [p["latent"] for p in figures["worst"]] == order[:6]
    gaps = {
        latent: max(abs(a - b), abs(confidence[latent] - max(0, means[latent])))
        for latent, (a, b) in values.items()
    }
    assert {p["latent"] for p in figures["surprising"]} == set(
        sorted(gaps, key=gaps.__getitem__)[-6:]
    )
    (agreement,) = figures["agreement"]
    assert agreement["correlation"] == pytest.approx(
        np.corrcoef(np.array(list(values.values())).T)[0, 1]
    )
    deciles = figures["by_decile"]["detection"]
    assert [d["mean"] / deciles[9]["mean"] for d in deciles] == pytest.approx(np.arange(10) / 9)


def test_memory_does_not_grow_with_the_latents(tmp_path: Path) -> None:
    peaks = []
    for number in (200, 1000):
        (tmp_path / str(number)).mkdir()
        run = written(tmp_path / str(number), number)
        with Results.read(run / "results.sqlite") as results:
            tracemalloc.start()
            tallied(results, EXPLAINER, lambda latent: 0.01, seed=0)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000  # samples fill up; the rows of 800 latents are 4 MB


def test_few_groups_of_activations_stand_for_several_tenths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = explained(0)
    groups = {f"recall_decile_{d}": Metric(d / 10) for d in range(5)}
    run = write_run(tmp_path / "run", [one], [scored(one, 0.9, metrics=groups)])
    found = document(capsys, "report", str(run))["by_decile"]["detection"]
    assert [(d["decile"], d["mean"]) for d in found] == [(d, d // 2 / 10) for d in range(10)]


def test_a_figure_that_is_no_number_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = explained(0), explained(1)
    nan = {"specificity_random": Metric(float("nan"))}
    scores = [scored(one, float("nan"), metrics=nan), scored(two, 0.8)]
    figures = document(capsys, "report", str(write_run(tmp_path / "run", [one, two], scores)))
    assert figures["distributions"]["detection"]["true"]["n"] == 1
    assert figures["specificity"] == {}


def test_failures_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reasons = ["no answer in 5 attempts", "no answer in 6 attempts", "out of luck"]
    bad = [explained(i, "", status="failed", reason=r) for i, r in enumerate(reasons)]
    good = explained(9)
    broken = scored(good, 0.5)
    broken = replace(broken, score=replace(broken.score, status="failed", metrics={}, reason="odd"))
    run = write_run(tmp_path / "run", [*bad, good], [broken])
    figures = document(capsys, "report", str(run))
    told = [(f["what"], f["kind"], f["n"]) for f in figures["failures"]]
    assert told == [
        ("explaining", "no answer", 2),
        ("detection", "odd", 1),
        ("explaining", "out of luck", 1),
    ]


def test_without_an_example_store_the_report_says_so(tmp_path: Path) -> None:
    one = explained(0)
    page = report(write_run(tmp_path / "run", [one], [scored(one, 0.9)]))
    assert "example store of the run is not here" in page.shown
    assert "This run came without a configuration" in page.shown


def test_an_unfinished_run_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [explained(0)])
    with Results.read(run / "results.sqlite") as results:
        status = summarise(results, run=run, explainer=EXPLAINER, planned=2, seconds=4000.0)
    told = {**status, "stage": "score", "reason": "the budget is spent"}
    (run / "status.json").write_text(json.dumps(told))
    shown = report(run).shown
    assert "has not ended (stage: score)" in shown
    assert "Stopped: the budget is spent" in shown
    assert "1 h 6 min" in shown


def test_secrets_of_the_configuration_are_hidden(finished: Path, tmp_path: Path) -> None:
    config: dict[str, Any] = yaml.safe_load((finished / "config.yaml").read_text())
    config["llms"] = {
        "judge": {
            "model": "m",
            "backend": "openai",
            "base_url": "https://me:sesame@host/v1",
            "api_key_env": "MY_PRIVATE_KEY",
            "extra_body": {"authorization": "Bearer sesame", "max_tokens": 77},
        }
    }
    run = write_run(tmp_path / "run", [explained(0)])
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    page = report(run)
    assert "sesame" not in page.source
    assert "MY_PRIVATE_KEY" not in page.source
    assert "host/v1" in page.shown
    assert "max_tokens: 77" in page.shown


def test_explanations_from_elsewhere_have_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [replace(explained(3), explainer="imported")])
    assert document(capsys, "report", str(run))["explainer"] == "imported"


def test_another_place(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [explained(0)])
    assert main(["report", str(run), "--output", str(tmp_path / "my.html")]) == 0
    assert (tmp_path / "my.html").stat().st_size > 5_000


def test_refusals(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run at" in refusal(capsys, ["report", str(tmp_path / "none")])
    (tmp_path / "empty").mkdir()
    assert "no run at" in refusal(capsys, ["report", str(tmp_path / "empty")])
    nothing = write_run(tmp_path / "run", [])
    assert "has no explanations yet" in refusal(capsys, ["report", str(nothing)])
    folder = ["report", str(finished), "--output", str(tmp_path)]
    assert "is a folder" in refusal(capsys, folder)
    missing = ["report", str(finished), "--output", str(tmp_path / "no" / "r.html")]
    assert "no folder" in refusal(capsys, missing)


def test_scores_of_latents_of_others_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = explained(5), replace(explained(2), explainer="other")
    run = write_run(tmp_path / "run", [ours, theirs], [scored(theirs, 0.1), scored(ours, 0.9)])
    with Results.read(run / "results.sqlite") as results:
        tally = tallied(results, EXPLAINER, lambda latent: None, seed=0)
    assert tally.values["detection"][""].mean.value == 0.9
    assert [pick.latent for pick in tally.best] == [LatentId("c", 5)]

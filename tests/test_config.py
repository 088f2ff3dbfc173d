"""The configuration file: defaults, overrides, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autointerp.config import RunConfig, load_config
from autointerp.latents import AutointerpError
from autointerp.latents.wanted import parse_latents


def test_the_default_is_the_demo() -> None:
    config = RunConfig()
    assert config.subject.model == "demo"
    assert set(config.subject.coders) == {"layers.0", "layers.1"}
    assert config.latents == {"layers.0": "alive:40", "layers.1": "alive:40"}
    assert (config.explainer["kind"], config.explainer["roles"]) == ("agent", "pattern")
    assert [s["kind"] for s in config.scorers] == ["detection", "fuzzing"]
    assert [s["judge"]["kind"] for s in config.scorers] == ["pattern", "pattern"]


def test_the_resolved_file_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(overrides=["corpus.tokens=5_000", "run.seed=3"])
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path) == config


def test_overrides_change_only_what_they_name() -> None:
    config = load_config(
        overrides=[
            "latents.layers.0=alive:6",
            "subject.coders.layers.1.hook=model.layers.1",
            "subject.coders.mlp=somewhere",
            "examples.splits={explain: 0.5, select: 0.25, test: 0.25}",
        ]
    )
    assert config.latents["layers.0"] == "alive:6"
    assert config.latents["layers.1"] == "alive:40"
    assert config.subject.coders["layers.1"].hook == "model.layers.1"
    assert config.subject.coders["layers.1"].path == "demo"
    assert config.subject.coders["mlp"].path == "somewhere"
    assert config.examples.splits.explain == 0.5


def test_it_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        RunConfig().run.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("corpus.token=5", "unknown key 'corpus.token'; did you mean 'tokens'?"),
        ("corpsu.tokens=5", "did you mean 'corpus'?"),
        ("subject.coders.layers.0={path: demo, hok: x}", "did you mean 'hook'?"),
        ("examples.explain.tops=5", "did you mean 'top'?"),
        ("explainer.kind=patern", "did you mean 'pattern'?"),
        ("explainer.round=9", "did you mean 'rounds'?"),
        ("scorers=[{kind: detektion}]", "did you mean 'detection'?"),
        ("scorers.0.nonsense=1", "nonsense"),
        ("scorers.7.kind=detection", "count from 0"),
        ("latents.layers.9=all", "no such coder"),
        ("latents.layers.0=some", "names no latents"),
        ("subject.dtype=float8", "subject.dtype"),
        ("subject.model=gpt2", "give coders too"),
        ("corpus.tokens=0", "corpus.tokens"),
        ("nothing", "is not an override"),
        ("run.seed=[", "run.seed"),
    ],
)
def test_mistakes_take_one_line(override: str, expected: str) -> None:
    with pytest.raises(AutointerpError) as caught:
        load_config(overrides=[override])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "just text"])
def test_files_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(AutointerpError, match=r"c\.yaml"):
        load_config(path)


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(AutointerpError, match="no configuration file"):
        load_config(tmp_path / "absent.yaml")


@given(st.sets(st.integers(0, 500), min_size=1))
def test_indices_in_any_form_are_the_same_latents(indices: set[int]) -> None:
    expected = tuple(sorted(indices))
    assert parse_latents(list(indices), "x").indices == expected
    assert parse_latents(", ".join(map(str, indices)), "x").indices == expected
    assert parse_latents(f"{expected[0]}-{expected[-1]}", "x").indices == tuple(
        range(expected[0], expected[-1] + 1)
    )


def test_another_kind_starts_its_section_anew(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(load_config(None, ["explainer.kind=agent", "explainer.rounds=2"]).to_yaml())
    assert load_config(path).explainer["rounds"] == 2
    assert load_config(path, ["explainer.kind=pattern"]).explainer["kind"] == "pattern"
    again = load_config(path, ["explainer.rounds=3", "explainer.kind=agent"]).explainer
    assert again["rounds"] == 3


TIERS = "explainer.tiers=[{kind: pattern}, {kind: single_pass}]"
NAMED = ("llms.explainer.model=m", "llms.judge.model=m")
JUDGED = "scorers=[{kind: detection, judge: llm}]"


def test_tiers_make_a_cascade_whatever_the_order_of_overrides(tmp_path: Path) -> None:
    more = ["explainer.escalate_below=0.7", "explainer.tiers.1.count=9", JUDGED]
    config = load_config(None, [*more, TIERS, *NAMED])
    assert config == load_config(None, [TIERS, *more, *NAMED])
    assert config.explainer["kind"] == "cascade"
    assert config.explainer["escalate_below"] == 0.7
    assert config.explainer["judge"]["kind"] == "llm"
    assert [tier["kind"] for tier in config.tiers] == ["pattern", "single_pass"]
    assert config.tiers[1]["count"] == 9
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path) == config
    kept = load_config(path, ["explainer.tiers=[{kind: pattern}, {kind: agent}]"]).explainer
    assert kept["escalate_below"] == 0.7
    assert load_config(path, ["explainer.kind=pattern"]).explainer["kind"] == "pattern"


def test_a_cascade_needs_what_its_tiers_and_its_judge_need() -> None:
    patterns = load_config(None, ["explainer.tiers=[{kind: pattern}, {kind: agent}]"])
    assert patterns.explainer["judge"] == {"kind": "pattern"}
    assert patterns.needs("explain") == {"probes", "refused", "encode", "judge"}
    assert patterns.llm_names("explain") == []
    sentences = load_config(None, [TIERS, JUDGED, *NAMED])
    assert sentences.needs("explain") == {"client", "templates"}
    assert sentences.llm_names("explain") == ["explainer", "judge"]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{tiers: [{kind: pattern}]}", "explainer: tiers: name two or more"),
        ("{tiers: [{kind: pattern}, {kind: pattern}]}", "'pattern' is listed twice"),
        ("{tiers: [{kind: pattern}, {kind: agnt}]}", "did you mean 'agent'?"),
        ("{tiers: [{kind: pattern}, {kind: agent, rols: llm}]}", "explainer.tiers.1: unknown key"),
        ("{tiers: [{kind: pattern}, {}]}", "explainer.tiers.1: name its kind"),
        ("{tiers: [{kind: pattern}, {kind: agent}], escalate_blow: 1}", "'escalate_below'?"),
        ("{tiers: [{kind: pattern}, {kind: agent}], escalate_below: 2}", "escalate_below"),
        ("{tiers: [{kind: pattern}, {kind: cascade}]}", "no explainer of kind 'cascade'"),
        ("{kind: cascade}", "name them under explainer.tiers"),
        ("{kind: pattern, tiers: []}", "pattern has no tiers"),
        ("{tiers: [{kind: pattern}, {kind: single_pass}], judge: pattern}", "explainer.judge=llm"),
        ("{tiers: [{kind: pattern}, {kind: single_pass}]}", "explainer.judge needs a language"),
    ],
)
def test_mistakes_in_a_cascade_take_one_line(section: str, expected: str) -> None:
    with pytest.raises(AutointerpError) as caught:
        load_config(overrides=[f"explainer={section}"])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_kind_that_asks_a_language_model_needs_one() -> None:
    with pytest.raises(AutointerpError, match=r"explainer needs .* llms.explainer.model="):
        load_config(None, ["explainer.kind=single_pass"])
    needs = r"detection: scorers.0.judge needs .* llms.judge.model="
    with pytest.raises(AutointerpError, match=needs):
        load_config(None, ["scorers.0.judge=llm"])
    with pytest.raises(AutointerpError, match="asks no judge"):
        load_config(None, ["explainer.kind=pattern", "explainer.judge=pattern"])
    one = ["explainer.kind=single_pass", "llms.explainer.model=m"]
    config = load_config(None, [*one, "scorers=[]"])
    assert config.needs("explain") == {"client", "templates"}
    assert config.llm_names("explain") == ["explainer"]
    assert not config.llm_names("score")
    config = load_config(None, [*one, JUDGED, "llms.judge.model=m"])
    assert config.llm_names("score") == ["judge"]


@pytest.mark.parametrize(
    ("section", "where"),
    [
        ("{kind: single_pass}", "scorers.0"),
        ("{kind: agent, roles: llm}", "scorers.0"),
        ("{tiers: [{kind: pattern}, {kind: single_pass}]}", "scorers.0"),
        ("{tiers: [{kind: pattern}, {kind: agent, roles: llm}]}", "scorers.0"),
        ("{kind: agent, roles: llm, judge: pattern}", "explainer"),
        ("{tiers: [{kind: pattern}, {kind: single_pass}], judge: pattern}", "explainer"),
    ],
)
def test_a_judge_of_patterns_is_refused_where_other_texts_are_written(
    section: str, where: str
) -> None:
    with pytest.raises(AutointerpError, match=f"{where}.judge: pattern reads .*{where}.judge=llm"):
        load_config(None, [f"explainer={section}", *NAMED])
    judged = [f"explainer={section.replace('judge: pattern', 'judge: llm')}", *NAMED]
    assert load_config(None, [*judged, JUDGED]).llm_names("score") == ["judge"]

"""Texts of every kind come through; places, addresses and keys of this machine do not go out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from export.published_run import contents, exported, make_run, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_outcomes import outcomes
from small_run import contents as results_of

from autointerp.cli import main
from autointerp.config import load_config
from autointerp.export import shards
from autointerp.export.card import cell
from autointerp.export.outcomes import Judged, outcome_table, read_outcomes
from autointerp.export.rows import exactly, legible
from autointerp.export.shards import folders
from autointerp.export.tables import TABLES
from autointerp.latents import (
    Cost,
    Explanation,
    Failure,
    Label,
    LatentId,
    Metric,
    Outcome,
    Score,
)
from autointerp.pipeline.building import settings as settings_of
from autointerp.pipeline.rows import Scored, pack_outcomes

TEXTS = (
    "<script>alert('x')</script> & <b>bold</b> &amp;",
    "| a | b |\n|---|---|\n# not a heading\n```\n---\n",
    "quotes \"'`´„“ and a \\ backslash, \\ud800 written out",
    "two\r\nlines\tand\x0bmore\u2028of\u2029them\x85",
    "שלום \u202eright to left\u202c العربية",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \ufeff \U0010ffff",
    "\x00 \x1b[31mred\x07 \x7f",
    "  blanks around  ",
)
LONE = "half \ud83d a pair, and the other half \ude00"


def same(text: str) -> str:
    return text


@settings(max_examples=40)
@given(st.lists(st.lists(outcomes(longest=4), max_size=12), max_size=4))
def test_outcomes_of_all_kinds_are_what_they_were(batch: list[list[Outcome]]) -> None:
    judged = [
        Judged(f"a/{i}", i, None, "detection", "", pack_outcomes(some))
        for i, some in enumerate(batch)
    ]
    table = outcome_table(judged, same)
    assert table.schema == TABLES["outcomes"]
    found = table.to_pylist()
    assert list(read_outcomes(found)) == [outcome for some in batch for outcome in some]
    expected = [(i, place) for i, some in enumerate(batch) for place in range(len(some))]
    assert [(row["index"], row["place"]) for row in found] == expected


@given(
    st.text(st.characters()) | st.lists(st.text(st.characters()), max_size=3),
    st.text(st.characters()) | st.none(),
)
def test_texts_that_utf8_cannot_hold_are_kept_beside(a: object, b: str | None) -> None:
    row = {"text": a, "reason": b}
    shown = legible(row)
    json.dumps(shown, ensure_ascii=False).encode()  # every text is one that UTF-8 can hold
    assert exactly(shown) == row


def explanations() -> list[Explanation]:
    made = [
        Explanation(
            LatentId("layers.0", number),
            text,
            "single_pass",
            components=(text, ""),
            reason=text,
            confidence=0.5,
            cost=Cost(1, 2, 3, 4, 0.1, 0.2),
            details={"label": text, "probes": [{"id": "p1", "text": text}], "empty": []},
        )
        for number, text in enumerate(TEXTS)
    ]
    lone = {"label": LONE, "probes": [{"text": LONE}]}
    return [*made, replace(made[0], explainer="agent", components=(LONE,), details=lone)]


def scores() -> list[Scored]:
    made = []
    for number, text in enumerate(TEXTS):
        latent = LatentId("layers.0", number)
        judged = [Label(True, False, 0.25, "activating", 3, "r1"), Failure(text, "random")]
        score = Score(
            latent,
            f"{latent}:input:single_pass",
            "detection",
            text,
            "balanced_accuracy",
            0.5,
            {"balanced_accuracy": Metric(0.5, None, 0.9, 2), "nothing": Metric(float("inf"))},
            judged,
            reason=text,
            details={"note": text, "lone": LONE},
        )
        made += [Scored(score), Scored(replace(score, explanation=None), "shuffled")]
    return made


def test_texts_of_every_kind_come_through(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", explanations(), scores())
    folder = exported(run, tmp_path / "hub")
    assert [r["text"] for r in rows(folder, "explanations") if r["explainer"] == "single_pass"] == [
        *TEXTS
    ]
    assert any("\ufffd" in r["components"][0] for r in rows(folder, "explanations"))
    new = tmp_path / "new"
    assert main(["import", str(folder), "--run", str(new)]) == 0
    assert results_of(new) == results_of(run)
    assert contents(exported(new, tmp_path / "again")) == contents(folder)


def test_tables_of_many_files_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", explanations(), scores())
    whole = exported(run, tmp_path / "one")
    for limit in ("ROWS_ELSE", "GROUP_ELSE", "_GATHERED"):
        monkeypatch.setattr(shards, limit, 3)
    folder = exported(run, tmp_path / "many")
    assert len(list(folder.rglob("scores-*.parquet"))) == 6
    for table in TABLES:
        assert rows(folder, table) == rows(whole, table)
    new = tmp_path / "new"
    assert main(["import", str(folder), "--run", str(new)]) == 0
    assert results_of(new) == results_of(run)
    assert contents(exported(new, tmp_path / "again")) == contents(folder)


def test_the_corpus_licence_can_be_configured_and_changes_no_results(tmp_path: Path) -> None:
    mine = ["corpus.source=texts.jsonl", "corpus.license=CC-BY-4.0"]
    run = make_run(tmp_path / "run", explanations(), overrides=mine)
    card = (exported(run, tmp_path / "hub") / "README.md").read_text()
    assert "license: cc-by-4.0" in card
    assert "under cc-by-4.0" in card
    known, unknown = load_config(None, mine), load_config(None, mine[:1])
    assert settings_of(known, {}, explain=True) == settings_of(unknown, {}, explain=True)


def test_a_card_holds_any_name(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run",
        [Explanation(LatentId("a|b<i>", 0), "x", "agent")],
        overrides=[f"subject.model={json.dumps(TEXTS[1])}", 'subject.coders={"a|b<i>": p}'],
    )
    card = (exported(run, tmp_path / "hub") / "README.md").read_text()
    assert "<i>" not in card.replace("\\<i\\>", "").split("---", 2)[2]
    assert cell("a|b\n*c*") == r"a\|b \*c\*"


@given(st.lists(st.text(min_size=1), unique=True, max_size=8))
def test_every_coder_has_a_folder_of_its_own(coders: list[str]) -> None:
    places = folders(coders)
    names = [
        f"{place}{table}".lower()
        for place in places.values()
        for table in ("", *(f".{table}" for table in TABLES))
    ]
    assert len(set(names)) == len(names)
    assert all(place and place.isascii() and "/" not in place for place in places.values())
    assert not any(place.startswith(".") for place in places.values())


def test_nothing_of_this_machine_goes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret-key")
    home = tmp_path / "home" / "jane"
    monkeypatch.setenv("HOME", str(home))
    hidden = ("sk-very-secret-key", "10.1.2.3", "jane", str(tmp_path), "MY_KEY", "hush", "laptop")
    reason = f"{tmp_path}/run/x: {home}/key sk-very-secret-key http://10.1.2.3:8000/v1 refused"
    latent = LatentId("layers.0", 0)
    failed = Explanation(
        latent, "", "agent", status="failed", reason=reason, details={"stopped": reason}
    )
    score = Score(
        latent, failed.id, "detection", "llm", "b", 0.5, {}, [Failure(reason, "random")],
        status="failed", reason=reason,
    )  # fmt: skip
    llm = {
        "model": "m",
        "base_url": "http://10.1.2.3:8000/v1",
        "api_key_env": "MY_KEY",
        "extra_body": {"user": "hush"},
    }
    run = make_run(
        tmp_path / "run",
        [failed],
        [Scored(score)],
        [
            f"llms={json.dumps({'judge': llm})}",
            f"corpus.source={home}/texts.jsonl",
            f"journal={home}/journal.sqlite",
            f"subject.model={home}/model",
            f"subject.coders={json.dumps({'layers.0': str(home / 'sae')})}",
        ],
    )
    (run / "status.json").write_text(
        json.dumps({"run": str(run), "reason": reason, "host": "laptop"})
    )
    folder = exported(run, tmp_path / "hub")
    texts = [path.read_text() for path in (folder / "README.md", folder / "autointerp.json")]
    texts += [json.dumps(rows(folder, table)) for table in TABLES]
    for secret in hidden:
        assert not [text for text in texts if secret in text], secret
    manifest = json.loads(texts[1])
    assert manifest["config"]["subject"]["model"] == "model"
    assert manifest["config"]["llms"]["judge"]["model"] == "m"
    assert "refused" in rows(folder, "explanations")[0]["reason"]

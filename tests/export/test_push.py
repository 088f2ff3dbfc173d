"""Uploading a run with the hub's own client: what is there, what goes, and again after failures."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from export.published_run import contents, exported, make_run
from hub_server import TOKEN, HubServer
from huggingface_hub import constants
from small_run import document, refusal

from autointerp.cli import main
from autointerp.export.push import plan, push
from autointerp.export.remote import Remote
from autointerp.latents import AutointerpError, Explanation, LatentId

NAME = "me/explanations"
CODERS = ("a", "b", "c")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    coders = dict.fromkeys(CODERS, "p")
    explained = [
        Explanation(
            LatentId(coder, 3), f"text of {coder}", "agent", details={"probes": [{"id": 1}]}
        )
        for coder in CODERS
    ]
    return make_run(tmp_path / "run", explained, overrides=[f"subject.coders={json.dumps(coders)}"])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        yield server


def pushed(folder: Path, *, files_a_commit: int = 2) -> dict[str, object]:
    planned = plan(folder, Remote(NAME), public=False)
    return push(planned, lambda *_: None, files_a_commit=files_a_commit, wait=lambda _: None)


def without_attributes(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: held for name, held in files.items() if name != ".gitattributes"}


def test_everything_is_there_and_nothing_goes_twice(hub: HubServer, run: Path) -> None:
    folder = exported(run, run / "export" / "hub")
    first = pushed(folder)
    assert without_attributes(hub.contents(NAME)) == contents(folder)
    assert hub.state.repositories[NAME].private
    assert NAME in (folder / "README.md").read_text()
    assert first["sent"] == first["files"] == len(contents(folder))
    assert hub.state.repositories[NAME].commits[-1] == ["README.md", "autointerp.json"]
    again = pushed(exported(run, folder))
    assert (again["sent"], again["commits"]) == (0, 0)
    assert len(hub.state.puts) == len(set(hub.state.puts)) == 6


@pytest.mark.parametrize(
    "faults",
    [
        {("commit", 1): "lost", ("commit", 3): "500"},
        {("commit", 2): "reset", ("preupload", 4): "lost", ("create", 1): "lost"},
        {("PUT", 3): "lost", ("batch", 2): "500"},
    ],
)
def test_failures_in_the_middle_change_nothing(
    hub: HubServer, run: Path, faults: dict[tuple[str, int], str]
) -> None:
    folder = exported(run, run / "export" / "hub")
    hub.state.faults |= faults
    pushed(folder)
    assert without_attributes(hub.contents(NAME)) == contents(folder)
    assert [len(paths) for paths in hub.state.repositories[NAME].commits] == [2, 2, 2, 2]
    assert len(set(hub.state.puts)) == 6
    assert len(hub.state.puts) == 6 + sum(fault == ("PUT", 3) for fault in faults)


def test_a_hub_that_stays_away_is_told_and_gone_on_from(hub: HubServer, run: Path) -> None:
    folder = exported(run, run / "export" / "hub")
    hub.state.faults |= {("commit", number): "500" for number in range(2, 20)}
    with pytest.raises(AutointerpError, match="the same command goes on from here"):
        pushed(folder)
    assert len(hub.state.repositories[NAME].commits) == 1
    hub.state.faults.clear()
    assert pushed(folder)["sent"] == len(contents(folder)) - 2
    assert without_attributes(hub.contents(NAME)) == contents(folder)


def test_what_the_run_has_no_more_goes_away(hub: HubServer, run: Path, tmp_path: Path) -> None:
    pushed(exported(run, tmp_path / "all"))
    less = exported(run, tmp_path / "less", examples=False)  # no events, which are probes here
    document = pushed(less)
    assert document["deleted"] == 3
    assert without_attributes(hub.contents(NAME)) == contents(less)


def test_it_is_private_unless_said_and_other_peoples_files_stay(
    hub: HubServer, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["push", str(run), "--license", "mit", "--yes", "--repo"]
    hub.add("me/public", private=False)
    assert "say --public if that is meant" in refusal(capsys, [*words, "me/public"])
    hub.add("me/private", private=True)
    assert "me/private is private" in refusal(capsys, [*words, "me/private", "--public"])
    hub.add("me/other", private=True, thesis__tex="years of work")
    assert "holds other files, as thesis.tex" in refusal(capsys, [*words, "me/other"])
    found = document(capsys, *words, "mine", "--public")
    assert found["repo"] == "me/mine"
    assert not hub.state.repositories["me/mine"].private
    assert hub.state.puts


def test_what_will_go_is_shown_and_asked(
    hub: HubServer,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["push", str(run), "--repo", NAME, "--no-examples"]
    typed = io.StringIO("n\n")
    monkeypatch.setattr(typed, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", typed)
    assert main([*words, "--json"]) == 0
    out, shown = capsys.readouterr()
    assert json.loads(out) == {"repo": NAME, "sent": 0}
    assert "(private, new), as me" in shown
    assert "psf-2.0; example windows of the corpus stay here" in shown
    assert "data/a/explanations-00000.parquet" in shown
    assert not hub.state.repositories
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert "nobody can be asked here" in refusal(capsys, words)


def test_what_cannot_be_pushed_is_told_in_a_line(
    hub: HubServer,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["push", str(run), "--yes", "--repo"]
    mine = make_run(tmp_path / "mine", overrides=["corpus.source=texts.jsonl"])
    refused = refusal(capsys, ["push", str(mine), "--yes", "--repo", NAME])
    assert "the licence of texts.jsonl is not known; give --license" in refused
    assert "--repo: " in refusal(capsys, [*words, "not/a/name"])
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the hub refused to tell whose token it is" in refusal(capsys, [*words, NAME])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal(capsys, [*words, NAME])

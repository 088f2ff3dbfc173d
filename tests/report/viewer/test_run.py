"""The index and the live subject of a real run, against the commands that say the same."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from small_run import document, left_alone, refusal
from viewer_world import client_of

from autointerp.latents import AutointerpError, LatentId
from autointerp.pipeline.browsing import LatentDocuments, same_latents
from autointerp.pipeline.live import LONGEST, LiveRun
from autointerp.pipeline.results import Results
from autointerp.report.viewer.building import INDEX, index_path, is_current, up_to_date
from autointerp.report.viewer.index import Index
from autointerp.report.viewer.sides import Side
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.loading import DEMO

SMALL = (
    *("corpus.tokens=40000", "latents.layers.0=alive:3", "latents.layers.1=0,3017"),
    *("explainer={kind: pattern}", "scorers=[{kind: detection}]"),
)
TEXT = "import os\nfor i in range(10):\n    print(i, **kwargs)\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return left_alone(tmp_path_factory.mktemp("runs"), SMALL)


@pytest.fixture(scope="module")
def live(run: Path) -> LiveRun:
    return LiveRun(run)


def nothing(*_: object) -> None:
    """Nobody looks on."""


@pytest.fixture(scope="module")
def index(run: Path) -> Index:
    up_to_date(run, run / INDEX, nothing)
    return Index(run / INDEX)


def test_the_index_says_what_show_says(
    run: Path, index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    with Results.read(run / "results.sqlite") as results:
        latents = [e.latent for e in results.explanations()]
    assert index.latents == len(latents) == 5
    for latent in latents:
        row = index.latent(latent)
        shown = document(capsys, "show", str(run), str(latent))
        assert row is not None
        assert (row.text, row.status) == (shown["explanation"], shown["status"])
        assert (row.reason, row.confidence) == (shown["reason"], shown["confidence"])
        assert row.density == pytest.approx(shown["statistics"]["density"])
        assert row.maximum == pytest.approx(shown["statistics"]["max"])
        values = {name: s["value"] for name, s in shown["scores"].items() if s["value"] is not None}
        assert {name: found.value for name, found in row.headlines.items()} == values
        assert json.dumps(LatentDocuments(run)(latent)) == json.dumps(shown)


def test_pages_of_a_real_run(run: Path, index: Index, live: LiveRun) -> None:
    client = client_of([Side("", run, index, LatentDocuments(run), live)])
    for address in ("/", "/about", "/latent?id=layers.1/3017", "/latent?id=layers.1/0"):
        assert client.get(address).status_code == 200
    near = client.get("/latent?id=layers.1/3017&neighbours=decoder")
    assert near.text.count("not among this run") >= 5
    found = client.post("/live", data={"text": TEXT})
    assert "layers.1/3017" in found.text
    assert client.post("/live", data={"text": "x" * (LONGEST + 1)}).status_code == 400


def test_what_fires_is_what_probe_measures(
    run: Path, live: LiveRun, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TEXT * 40  # longer than the context
    reading = live.fire(text)
    best = sorted(reading.fired, key=lambda fired: -fired.maximum)[:4]
    asked = [word for fired in best for word in ("--latent", str(fired.latent))]
    probed = document(capsys, "probe", "--run", str(run), *asked, "--text", text)["texts"][0]
    assert reading.tokens == probed["tokens"]
    for fired in best:
        measured = probed["activations"][str(fired.latent)]
        assert fired.activations(len(reading.tokens)) == pytest.approx(measured, abs=2e-4)


def test_neighbours_have_the_nearest_directions(live: LiveRun) -> None:
    directions = load_coder(str(DEMO / "coders" / "layers.0")).decoder_directions().double()
    directions = directions / directions.norm(dim=1, keepdim=True)
    cosines = directions @ directions[7]
    expected = [i for i in cosines.argsort(descending=True).tolist() if i != 7][:10]
    found = live.nearest(LatentId("layers.0", 7))
    assert [latent.index for latent, _ in found] == expected
    assert [x for _, x in found] == pytest.approx(cosines[expected].tolist(), abs=1e-5)
    with pytest.raises(AutointerpError, match="none of the run's coders"):
        live.nearest(LatentId("layers.0", 10**6))


def test_the_index_is_made_anew_when_results_change(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    index = copy / INDEX
    up_to_date(copy, index, nothing)
    assert is_current(copy, index)
    made = index.stat().st_mtime_ns
    up_to_date(copy, index, nothing)
    assert index.stat().st_mtime_ns == made
    with Results.open(copy / "results.sqlite") as results:
        results.note("anything", 1)
    assert not is_current(copy, index)
    index.write_bytes(b"no database")
    assert not is_current(copy, index)
    up_to_date(copy, index, nothing)
    assert is_current(copy, index)
    assert not list(copy.glob("*.unfinished"))


@pytest.mark.usefixtures("without_root_powers")
def test_a_run_that_cannot_be_written_is_indexed_in_the_cache(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    assert index_path(copy) == copy / INDEX
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy.chmod(0o555)
    try:
        path = index_path(copy)
        up_to_date(copy, path, nothing)
        assert path.parent == tmp_path / "cache" / "autointerp"
        assert is_current(copy, path)
        assert Index(path).latents == 5
    finally:
        copy.chmod(0o755)


def test_pages_say_when_the_run_has_gone_on(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    up_to_date(copy, copy / INDEX, nothing)
    index = Index(copy / INDEX)
    client = client_of([Side("", copy, index, LatentDocuments(copy), LiveRun(copy))])
    assert "new results" not in client.get("/").text
    with Results.open(copy / "results.sqlite") as results:
        results.note("anything", 1)
    assert "new results" in client.get("/").text


def test_runs_of_the_same_subject_have_the_same_latents(run: Path) -> None:
    assert same_latents(run, run)


def test_without_examples_a_latents_page_says_so(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "examples")
    up_to_date(copy, copy / INDEX, nothing)
    index = Index(copy / INDEX)
    client = client_of([Side("", copy, index, LatentDocuments(copy), LiveRun(copy))])
    page = client.get("/latent?id=layers.1/3017")
    assert page.status_code == 200
    assert "the example store of the run is not here" in page.text
    assert client.get("/").status_code == 200


def test_what_cannot_be_viewed_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no run at" in refusal(capsys, ["view", str(tmp_path / "absent")])
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no run at" in refusal(capsys, ["view", str(empty), "--port", "0"])
    assert "between 0 and" in refusal(capsys, ["view", str(run), "--port", "99999"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refusal(capsys, ["view", str(run), "--port", port])
    assert f"cannot listen on 127.0.0.1:{port}" in line


def test_without_the_extra_it_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("autointerp.cli.viewing.find_spec", lambda name: None)
    line = refusal(capsys, ["view", str(run)])
    assert "pip install 'autointerp[view]', or pip install -e '.[view]' in a checkout" in line

"""Stores collected in shards and merged are those of one pass, in every array."""

from __future__ import annotations

import json
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from harvesting import CONTEXT, SEED, WINDOW, WORDS, KilledError, coder, unread
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autointerp.examples.exact import ExactSums
from autointerp.examples.harvest import collect, merge
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions, Progress
from autointerp.examples.store import ExampleStore
from autointerp.latents import AutointerpError
from autointerp.latents.shards import Shard
from autointerp.subject.activation_functions import TopK
from autointerp.subject.loading import load_subject
from autointerp.subject.model import Subject

OPTIONS = ExampleOptions(
    window=WINDOW, background=30, explain_top=4, explain_sampled=6, select_sampled=3, test_sampled=5
)


def texts(count: int) -> list[str]:
    """Some of them twice, so that windows tie."""
    rng = np.random.default_rng(0)
    made = [" ".join(rng.choice(WORDS, rng.integers(1, 60))) for _ in range(count)]
    return [made[i % (count - 7)] for i in range(count)]


TEXTS = texts(50)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return load_subject("demo", context_length=CONTEXT, batch_tokens=512)


@pytest.fixture(scope="module")
def coders(subject: Subject) -> dict[str, Attached]:
    hook = subject.hook_point("layers.1")
    return {"topk": Attached(coder(subject.width(hook), 48, TopK(4), 1), hook)}


def contents(store: ExampleStore) -> dict[str, bytes]:
    """Every file of a store, less what it tells of how fast it was collected."""
    folder = store.directory
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    header = json.loads(files.pop("store.json"))
    del files["collect.json"], header["report"]
    return {**files, "store.json": json.dumps(header).encode()}


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(of=st.integers(1, 9), chunk=st.integers(40, 900), tokens=st.integers(1, 2500))
def test_shards_merged_have_the_bytes_of_one_pass(
    subject: Subject, coders: dict[str, Attached], of: int, chunk: int, tokens: int
) -> None:
    corpus = CorpusOptions(tokens=tokens)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        patch.setattr("autointerp.examples.layout.CHUNK_TOKENS", chunk)
        folder = Path(name)

        def read(where: str, shard: Shard | None = None) -> ExampleStore:
            return collect(
                subject, coders, corpus, OPTIONS, folder / where, SEED,
                texts=iter(TEXTS), force=True, shard=shard,
            )  # fmt: skip

        whole = read("whole")
        parts = [read(shard.folder, shard) for shard in Shard(of, 1).all]
        assert sum(part.token_count for part in parts) == whole.token_count <= tokens
        merged = merge(parts, folder / "merged")
        assert contents(merged) == contents(whole)


def test_a_shard_that_was_cut_short_continues_to_the_same_store(
    subject: Subject, coders: dict[str, Attached], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autointerp.examples.layout.CHUNK_TOKENS", 150)
    shard, corpus, calls = Shard(2, 2), CorpusOptions(tokens=1500), 0

    def read(name: str, stop_after: int = 10**9) -> ExampleStore:
        def told(progress: Progress) -> None:
            nonlocal calls
            calls += 1
            assert progress.total == 750
            if calls > stop_after:
                raise KilledError

        return collect(
            subject, coders, corpus, OPTIONS, tmp_path / name, SEED, told,
            texts=iter(TEXTS), force=True, checkpoint_seconds=0, shard=shard,
        )  # fmt: skip

    whole = read("whole")
    groups, calls = calls, 0
    assert groups > 3
    with pytest.raises(KilledError):
        read("cut", stop_after=2)
    calls = 0
    assert contents(read("cut")) == contents(whole)
    assert calls < groups


def test_a_shard_s_folder_is_no_other_s(
    subject: Subject, coders: dict[str, Attached], tmp_path: Path
) -> None:
    corpus = CorpusOptions(tokens=300)
    one = collect(
        subject, coders, corpus, OPTIONS, tmp_path, SEED,
        texts=iter(TEXTS), force=True, shard=Shard(2, 1),
    )  # fmt: skip
    again = collect(
        subject, coders, corpus, OPTIONS, tmp_path, SEED, texts=unread(), shard=Shard(2, 1)
    )
    assert again.token_count == one.token_count
    for other in (Shard(2, 2), None):
        with pytest.raises(AutointerpError, match="with shard = '1/2', not"):
            collect(subject, coders, corpus, OPTIONS, tmp_path, SEED, texts=unread(), shard=other)


@settings(suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=5),
)
def test_exact_sums_do_not_depend_on_the_parts(values: list[float], cuts: list[int]) -> None:
    whole, together = ExactSums(1), ExactSums(1)
    for value in values:
        whole.add([value])
    bounds = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    for low, high in pairwise(bounds):
        part = ExactSums(1)
        for value in values[low:high]:
            part.add([value])
        together.add(part.high)
        together.add(part.low)
    assert together.high == whole.high
    assert float(whole.high[0]) == pytest.approx(sum(values), abs=1e-6, rel=1e-9)


@settings(suppress_health_check=list(HealthCheck))
@given(st.integers(1, 40), st.integers(0, 500))
def test_shards_share_everything_once(of: int, size: int) -> None:
    bounds = [shard.bounds(size) for shard in Shard(of, 1).all]
    assert [i for low, high in bounds for i in range(low, high)] == list(range(size))
    assert max(high - low for low, high in bounds) - min(high - low for low, high in bounds) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "-1/2", "a/b", "1/2/3", "1 / 2", ""])
def test_what_is_no_shard_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(AutointerpError, match="is not a shard; write NUMBER/HOW-MANY"):
        Shard.parse(text)
    assert Shard.parse("3/16") == Shard.parse("3-of-16") == Shard(16, 3)

"""Torch work of several stations against the same work in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_model import CountedWords
from numpy.typing import NDArray
from planted_coders import Planted
from small_run import settings as overrides
from stations import Stations

from autointerp.config import RunConfig, load_config
from autointerp.examples import harvest
from autointerp.examples.contrast import GROUPS, Contrasts, chunks_of
from autointerp.examples.negatives import prepare
from autointerp.examples.prefixes import Prefixes
from autointerp.examples.store import ExampleStore
from autointerp.latents import AutointerpError, LatentId
from autointerp.latents.shards import Shard
from autointerp.pipeline import building
from autointerp.pipeline.spreading import collect_by_workers, prepare_by_workers
from autointerp.pipeline.text_models import TextModels
from autointerp.pipeline.tools import open_steering
from autointerp.pipeline.workshop import Here, Workshop
from autointerp.subject.direction import Direction
from autointerp.subject.probing import Measurement, ProbeQueue

CHUNK = 2**11  # tokens that are read together: several times as many are in the corpus
LATENTS = [LatentId(name, index) for name in ("a", "b") for index in range(0, 40, 3)]


@pytest.fixture(scope="module")
def config(planted: Planted) -> RunConfig:
    return load_config(None, overrides(planted))


@pytest.fixture(scope="module")
def here(config: RunConfig) -> Here:
    subject = building.build_subject(config)
    attached = building.attach(config, subject, building.build_coders(config))
    return Here(lambda: (subject, attached))


@pytest.fixture(scope="module")
def store(config: RunConfig, here: Here, tmp_path_factory: pytest.TempPathFactory) -> ExampleStore:
    """Of a single pass."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("autointerp.examples.layout.CHUNK_TOKENS", CHUNK)
        return harvest.collect(
            here.subject,
            here.attached,
            building.corpus_options(config),
            building.example_options(config),
            tmp_path_factory.mktemp("single") / "examples",
            seed=config.run.seed,
        )


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autointerp.examples.layout.CHUNK_TOKENS", CHUNK)


def collected(stations: Workshop, run: Path, told: list[int] | None = None) -> ExampleStore:
    told = [] if told is None else told
    work = collect_by_workers(stations, run, run / "examples", None, False, told.append)
    return asyncio.run(work)


def same(one: ExampleStore, two: ExampleStore) -> None:
    """Every array is the same, bit by bit."""
    arrays = [
        sorted(p.relative_to(s.directory) for p in s.directory.rglob("*.npy")) for s in (one, two)
    ]
    assert arrays[0] == arrays[1]
    for name in [*arrays[0], Path("tokens.bin"), Path("documents.bin")]:
        assert (one.directory / name).read_bytes() == (two.directory / name).read_bytes(), name


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("count", "losses"), [(2, 0), (3, 4)])
def test_parts_of_a_corpus_make_the_store_of_a_single_pass(
    config: RunConfig, store: ExampleStore, tmp_path: Path, count: int, losses: int
) -> None:
    stations = Stations(config, count, losses=losses)
    told: list[int] = []
    same(collected(stations, tmp_path, told), store)
    assert stations.losses == 0
    assert not (tmp_path / "examples.parts").exists()
    assert max(told) <= store.token_count
    same(collected(stations, tmp_path), store)  # again, which finds it finished


@pytest.mark.usefixtures("small_chunks")
def test_other_workers_go_on_with_the_parts_that_were_begun(
    config: RunConfig, store: ExampleStore, tmp_path: Path
) -> None:
    one = Stations(config, 1)
    begun = tmp_path / "examples.parts" / "2-of-3"
    begun.parent.mkdir()
    one.workers("collect", False)[0]((begun, Shard(3, 2)))
    before = (begun / "store.json").stat().st_mtime_ns
    finished: list[int] = []
    same(collected(Stations(config, 2), tmp_path, finished), store)
    assert before  # the division of three was kept, and merged
    assert not begun.exists()


def test_what_cannot_be_collected_is_told_and_leaves_nothing_running(
    config: RunConfig, tmp_path: Path
) -> None:
    wide = config.examples.model_copy(update={"window": 200})
    wrong = config.model_copy(update={"examples": wide})
    with pytest.raises(AutointerpError, match="context of 97 tokens holds no window of 200"):
        collected(Stations(wrong, 2), tmp_path)


def negatives(prepared: Contrasts) -> list[list[list[int]]]:
    """By latent; logit-lens tokens of this model have nearly equal logits, and go in any order."""
    return [
        [*(prepared.windows(i, group).tolist() for group in GROUPS), sorted(prepared.logit_lens(i))]
        for i in LATENTS
    ]


def test_stations_find_the_negatives_that_one_process_finds(
    config: RunConfig, here: Here, store: ExampleStore, tmp_path: Path
) -> None:
    alone = Contrasts(store, own=tmp_path / "alone")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("autointerp.examples.negatives.contrasts", lambda _: alone)
        patched.setattr("autointerp.examples.negatives.CHUNK", 8)
        prepare(store, here.subject, here.attached, LATENTS)
    spread = Contrasts(store, own=tmp_path / "spread")
    stations, told = Stations(config, 3, losses=4), []
    chunks = chunks_of(spread, LATENTS, 8)
    asyncio.run(prepare_by_workers(stations, store, spread, chunks, lambda *now: told.append(now)))
    assert negatives(spread) == negatives(alone)
    assert told[-1] == (len(LATENTS), len(LATENTS))
    assert stations.losses == 0


TEXTS = [f"{word} of number {i}" for i in range(20) for word in ("apple", "river", "stone")]


def probed(workshop: Workshop, cache: Path | None = None) -> tuple[list[list[Measurement]], int]:
    coders = {name: (a.coder, a.hook) for name, a in workshop.attached.items()}

    async def work() -> tuple[list[list[Measurement]], int]:
        workers = workshop.workers("probe")
        async with ProbeQueue(workshop.subject, coders, cache, workers=workers) as queue:
            asks = (queue.measure(TEXTS, latent) for latent in LATENTS[::5])
            return await asyncio.gather(*asks), queue.counts.measured

    return asyncio.run(work())


def test_probes_are_the_same_wherever_they_are_measured(
    config: RunConfig, here: Here, tmp_path: Path
) -> None:
    stations = Stations(config, 3, losses=3)
    cache = tmp_path / "probes.sqlite"
    alone, _ = probed(here)
    for workshop in (stations, here):
        found, measured = probed(workshop, cache)
        for one, two in zip(chain(*found), chain(*alone), strict=True):
            assert one.tokens == two.tokens
            np.testing.assert_allclose(one.activations, two.activations, rtol=3e-4, atol=1e-6)
        assert (measured > 0) == (workshop is stations)  # then they are on disk
    assert stations.losses == 0


def test_steering_is_the_same_wherever_it_is_done(
    config: RunConfig, here: Here, store: ExampleStore
) -> None:
    prefixes, direction = Prefixes(store), Direction(LatentId("a", 3))
    prompts = prefixes.of(LatentId("a", 3), "test", 8).all

    async def work(workshop: Workshop) -> Sequence[Any]:
        async with open_steering(config, workshop, prefixes) as steering:
            random = Direction(LatentId("b", 2), random=0)
            found = await asyncio.gather(
                steering.strength(direction, prompts, 0.3),
                steering.strength(random, prompts, 0.3),
                steering.next_tokens(direction, 2.0, prompts),
                steering.continuations(direction, 2.0, prompts, 4),
            )
        (s, f, (clean, steered), texts) = found
        return [s.s, s.kl, f.s, f.kl], clean, steered, [t.tolist() for t in texts]

    stations = Stations(config, 2, losses=4)
    alone, spread = asyncio.run(work(here)), asyncio.run(work(stations))
    np.testing.assert_allclose(spread[0], alone[0], rtol=1e-4)
    for one, two in zip(spread[1:3], alone[1:3], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    assert spread[3] == alone[3]
    assert stations.losses == 0


def test_texts_are_as_likely_wherever_they_are_read(config: RunConfig, here: Here) -> None:
    pairs = [("before ", text) for text in TEXTS]

    async def work(workshop: Workshop) -> list[float | str]:
        models = TextModels(config, workshop)
        try:
            return await models.base_lm(None).logprobs(pairs)
        finally:
            await models.aclose()

    alone, spread = (asyncio.run(work(w)) for w in (here, Stations(config, 2, losses=3)))
    np.testing.assert_allclose(np.array(spread, float), np.array(alone, float), rtol=1e-4)


def test_texts_have_the_same_vectors_wherever_they_are_embedded(
    config: RunConfig, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autointerp.pipeline.building.load_embedder", lambda **_: CountedWords())

    async def work(workshop: Workshop) -> NDArray[np.float32]:
        models = TextModels(config, workshop)
        try:
            return await models.embedder.vectors(TEXTS)
        finally:
            await models.aclose()

    alone, spread = (asyncio.run(work(w)) for w in (here, Stations(config, 2, losses=2)))
    np.testing.assert_array_equal(spread, alone)

"""Scoring block by block: what a block holds, when one stops, and what the limits are worth."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given_sets import with_test
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_coders import Planted
from planted_others import build

from autointerp.config import build_config
from autointerp.judges import NoVerdict, Verdict
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import (
    AutointerpError,
    Example,
    ExampleBlock,
    Explanation,
    Item,
    LabelledSet,
    LatentId,
    Score,
    Source,
)
from autointerp.registry import scorers
from autointerp.scorers.blocks import BlockOptions, blocks
from autointerp.scorers.detection import DetectionScorer

LATENT = LatentId("layers.1", 7)
BENCH = Path(__file__).parents[2] / "bench" / "sequential.py"
Answer = Callable[[int], Verdict | NoVerdict]


def items_of(counts: dict[Source, int], deciles: int = 10) -> list[Item]:
    """So many windows of each source; a window's first token is its number."""
    found = []
    for source, count in counts.items():
        for i in range(count):
            number = np.array([len(found)])
            ids, zeros = np.array([[len(found), 0]], np.int32), np.zeros((1, 2), np.float32)
            left = np.zeros((1, 0), np.int32)
            block = ExampleBlock(LATENT, number, number, ids, zeros, left, ["t"] * 500)
            positive = source == "activating"
            decile = i % deciles if positive else None
            found.append(Item(Example(block, 0), positive, source, decile))
    return found


FULL = items_of({"activating": 50, "random": 50, "token": 10, "neighbour": 50})


class Counting:
    """A judge for detection: answers by window, and keeps what it is asked."""

    name = "counting"

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[list[int]] = []

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        numbers = [int(e.token_ids[0]) for e in examples]
        self.asked.append(numbers)
        return [self.answer(n) for n in numbers]

    async def fuzz(self, *_: Any, **__: Any) -> list[Verdict | NoVerdict]:
        raise AssertionError("detection asks about whole windows, never about marks")


def score(answer: Answer, items: list[Item] = FULL, **options: Any) -> tuple[Score, Counting]:
    judge = Counting(answer)
    scorer = DetectionScorer(BlockOptions(sequential=True, **options), judge=judge)
    test = LabelledSet(LATENT, "test", items, {}, None, 0)
    explanation = Explanation(LATENT, "a thing", "by hand")
    return asyncio.run(scorer.score(explanation, with_test(LATENT, test))), judge


def perfect(number: int) -> Verdict:
    return Verdict(FULL[number].truth)


def coin(number: int) -> Verdict:
    return Verdict(bool(np.random.default_rng(number).integers(2)))


def test_every_block_has_one_positive_of_each_decile_and_the_same_mix_of_negatives() -> None:
    found = blocks(FULL, LATENT, 0)
    assert len(found) == 5
    mixes = [Counter(FULL[i].source for i in block.negatives) for block in found]
    assert mixes[0] == {"random": 5, "token": 2, "neighbour": 3}
    assert all(mix == mixes[0] for mix in mixes)
    for block in found:
        assert sorted(FULL[i].decile or 0 for i in block.positives) == list(range(10))
    places = [i for block in found for i in (*block.positives, *block.negatives)]
    assert len(set(places)) == len(places) == 100


@given(
    st.integers(10, 50),
    st.integers(10, 50),
    st.integers(0, 50),
    st.integers(0, 50),
)
@settings(max_examples=60)
def test_blocks_use_nothing_twice_and_are_alike(
    positives: int, random: int, token: int, neighbour: int
) -> None:
    deciles = min(10, positives // 5)
    each = positives // deciles * deciles
    items = items_of(
        {"activating": each, "random": random, "token": token, "neighbour": neighbour}, deciles
    )
    found = blocks(items, LATENT, 0)
    assert found
    places = [i for block in found for i in (*block.positives, *block.negatives)]
    assert len(set(places)) == len(places)
    mixes = [Counter(items[i].source for i in block.negatives) for block in found]
    assert all(mix == mixes[0] for mix in mixes)
    assert all(len(b.positives) == len(b.negatives) == deciles for b in found)


def test_without_hard_windows_all_negatives_are_random() -> None:
    items = items_of({"activating": 50, "random": 50})
    assert {items[i].source for block in blocks(items, LATENT, 0) for i in block.negatives} == {
        "random"
    }


def test_a_clear_case_stops_early_and_an_unclear_one_does_not() -> None:
    clear, judge = score(perfect)
    assert clear.headline == "mixed"
    assert clear.metrics["mixed"].value == 1.0
    assert clear.metrics["mixed"].low is not None
    assert clear.metrics["mixed"].low > 0.7
    assert clear.details["blocks"] == len(judge.asked) < clear.details["of_blocks"] == 5
    assert len(clear.outcomes) == 20 * clear.details["blocks"]
    unclear, judge = score(lambda n: Verdict(FULL[n].truth != (n % 4 == 0)), half_width=0.01)
    assert len(judge.asked) == 5
    assert unclear.details["blocks"] == 5


def test_the_evidence_of_a_score_are_the_pairs_of_its_sequence() -> None:
    """All of them, so that every decile counts alike; here nothing but the weakest is missed."""
    found, _ = score(lambda n: Verdict(FULL[n].truth and n % 10 > 0), half_width=0.01, bar=0.95)
    assert found.details["blocks"] == 5
    assert found.details["pairs"] == [0, 5, 45]
    assert found.metrics["mixed"].value == pytest.approx(0.95)


@pytest.mark.parametrize("positives", [10, 15, 20, 25, 40, 50])
def test_a_prompt_may_hold_any_number_of_positives(positives: int) -> None:
    """Of prompts of as many texts as are allowed; with a fixed number, one tells of another."""
    items = items_of({"activating": positives, "random": 50}, positives // 5)
    _, judge = score(lambda n: Verdict(n % 2 == 0), items, half_width=0.001, bar=0.5)
    most = BlockOptions(sequential=True).most_texts
    assert most is not None
    prompts = [asked[i : i + most] for asked in judge.asked for i in range(0, len(asked), most)]
    held = {sum(items[n].truth for n in prompt) for prompt in prompts if len(prompt) == most}
    assert len(held) > 1
    assert sum(map(len, judge.asked)) == 2 * positives


def test_prompts_that_could_hold_a_whole_block_are_refused() -> None:
    judge = {"kind": "llm", "texts_per_prompt": 6}
    tree = {
        "explainer": {"kind": "single_pass", "llm": "judge"},
        "llms": {"judge": {"model": "m", "base_url": "http://127.0.0.1:1/v1"}},
    }
    scorer = {"kind": "detection", "sequential": True, "judge": judge}
    with pytest.raises(AutointerpError, match=r"scorers.0.judge.texts_per_prompt: 6 .* at most 5"):
        build_config({**tree, "scorers": [scorer]})
    build_config({**tree, "scorers": [{**scorer, "sequential": False}]})
    build_config({**tree, "scorers": [{**scorer, "judge": {**judge, "texts_per_prompt": 5}}]})


def test_only_the_sequence_has_limits() -> None:
    found, _ = score(coin)
    assert all(m.low is None for name, m in found.metrics.items() if name != "mixed")
    assert found.metrics["balanced_accuracy"].n == sum(
        o.source in ("activating", "random") for o in found.outcomes
    )


def test_failures_widen_the_limits() -> None:
    whole, _ = score(perfect, half_width=0.49, bar=0.999)
    failing, _ = score(
        lambda n: NoVerdict("cut") if n % 5 == 0 else perfect(n), half_width=0.49, bar=0.999
    )
    low, high = failing.metrics["mixed"].low, failing.metrics["mixed"].high
    assert low is not None
    assert high == whole.metrics["mixed"].high == 1.0
    assert whole.metrics["mixed"].low is not None
    assert low < whole.metrics["mixed"].low


def test_the_seed_decides_what_is_asked_and_nothing_else_does() -> None:
    assert score(coin)[0] == score(coin)[0]
    assert score(coin)[1].asked == score(coin)[1].asked
    assert blocks(FULL, LATENT, 1) != blocks(FULL, LATENT, 0)


def test_the_delphi_protocol_is_not_sequential() -> None:
    with pytest.raises(ValueError, match="sequential is for protocol: standard"):
        scorers.options({"kind": "detection", "sequential": True, "protocol": "delphi"})


def test_fuzzing_is_sequential_too(
    planted: Planted, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = build(planted, tmp_path_factory.mktemp("blocks"))
    kind = scorers.get("fuzzing")
    options = kind.options.model_validate({"sequential": True})
    fuzzing = kind.implementation(options, judge=PatternJudge())
    for latent in world.truth.family("token_set")[:3]:
        found = asyncio.run(fuzzing.score(world.explanation(latent), world.materials(latent)))
        assert found.headline == "mixed"
        assert found.metrics["mixed"].value >= 0.9
        assert {o.source for o in found.outcomes} == {"activating", "donor"}
        assert found.details["blocks"] < found.details["of_blocks"]


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = spec_from_file_location("bench_sequential", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("recall", "specificity"), [(0.7, 0.9), (0.97, 0.99), (0.995, 0.995), (1.0, 0.97)]
)
def test_limits_are_hardly_ever_wrong_at_any_look(
    bench: Any, recall: float, specificity: float
) -> None:
    assert bench.ever_missed(recall, specificity, 1000) <= 0.05


def test_a_third_of_the_items_is_saved_and_the_decision_stays(bench: Any) -> None:
    assert bench.saved(1500, 0.15, bench.FULL) >= 0.3
    assert bench.alike(1500, 0.15) >= 0.95

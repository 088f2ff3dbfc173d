"""The probe queue against one text at a time, and its promises to callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from autointerp.latents import AutointerpError, LatentId
from autointerp.subject.activation_functions import TopK
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.coders import SparseCoder
from autointerp.subject.loading import DEMO, load_subject
from autointerp.subject.model import HookPoint, Subject
from autointerp.subject.probing import Measurement, ProbeError, ProbeQueue

Coders = dict[str, tuple[SparseCoder, HookPoint]]
PLACES = {  # TopK, JumpReLU, and a transcoder
    "layers.1": "layers.1",
    "layers.3-jumprelu": "layers.3",
    "layers.2.mlp": "layers.2.mlp.input",
}
TEXTS = [
    "def parse(self, text):\n    return int(text)",
    'it\'s "quoted"\tand\r\nbroken',
    "naïve — 日本語 🙂👩‍👩‍👧",
    "a\0b",
    " ",
    "x",
    "for i in range(10):",
    "the cat sat on the mat and the dog sat on the cat",
]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return load_subject("demo", context_length=64, batch_tokens=256)


@pytest.fixture(scope="module")
def coders(subject: Subject) -> Coders:
    return {
        name: (load_coder(DEMO / "coders" / name), subject.hook_point(hook))
        for name, hook in PLACES.items()
    }


def alone(subject: Subject, coders: Coders, text: str, latent: LatentId) -> NDArray[np.float32]:
    """The activations of one latent on one text, measured by itself."""
    coder, hook = coders[latent.coder]
    (batch,) = subject.activations([subject.encode_text(text)], [hook])
    found: NDArray[np.float32] = coder.encode(batch.states[hook][0])[:, latent.index].numpy()
    return found


def some_active(subject: Subject, coders: Coders, name: str) -> list[int]:
    """Latents of a coder that are active somewhere in the texts, and one that is not."""
    coder, hook = coders[name]
    rows = [subject.encode_text(text) for text in TEXTS]
    active = torch.zeros(coder.d_sae, dtype=torch.bool)
    for batch in subject.activations(rows, [hook]):
        for state, length in zip(batch.states[hook], batch.lengths, strict=True):
            active |= (coder.encode(state[:length]) != 0).any(0)
    some = active.nonzero()[:, 0].tolist()
    return [*some[:: len(some) // 10], int((~active).nonzero()[0, 0])]


@pytest.fixture(scope="module")
def latents(subject: Subject, coders: Coders) -> list[LatentId]:
    return [LatentId(n, i) for n in coders for i in some_active(subject, coders, n)]


def run(
    queue: ProbeQueue, use: Callable[[ProbeQueue], Coroutine[Any, Any, Any]], seconds: float = 30
) -> Any:
    async def inside() -> Any:
        async with queue:
            return await asyncio.wait_for(use(queue), seconds)

    return asyncio.run(inside())


Asked = tuple[LatentId, list[str]]


async def ask_all(queue: ProbeQueue, asked: list[Asked]) -> list[list[Measurement]]:
    return await asyncio.gather(*(queue.measure(texts, latent) for latent, texts in asked))


def test_every_coder_agrees_with_measuring_alone(
    subject: Subject, coders: Coders, latents: list[LatentId]
) -> None:
    queue = ProbeQueue(subject, coders)
    found = run(queue, lambda q: ask_all(q, [(latent, TEXTS) for latent in latents]))
    for latent, measured in zip(latents, found, strict=True):
        for text, measurement in zip(TEXTS, measured, strict=True):
            assert measurement.token_ids.tolist() == subject.encode_text(text)
            assert measurement.tokens == [subject.vocabulary[i] for i in measurement.token_ids]
            expected = alone(subject, coders, text, latent)
            assert measurement.activations.dtype == np.float32
            np.testing.assert_allclose(measurement.activations, expected, rtol=3e-4, atol=1e-5)
    assert any(m.activations.any() for measured in found for m in measured)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_mix_of_texts_and_latents(
    subject: Subject, coders: Coders, latents: list[LatentId], data: st.DataObject
) -> None:
    texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=12).filter(is_measurable))
    asks = st.tuples(st.sampled_from(latents), st.lists(texts, max_size=5))
    asked = data.draw(st.lists(asks, max_size=6))
    queue = ProbeQueue(subject, coders, memory=data.draw(st.sampled_from([0, 2000, 2**20])))
    found = run(queue, lambda q: ask_all(q, asked))
    for (latent, some), measured in zip(asked, found, strict=True):
        for text, measurement in zip(some, measured, strict=True):
            expected = alone(subject, coders, text, latent)
            np.testing.assert_allclose(measurement.activations, expected, rtol=3e-4, atol=1e-5)
    assert queue.counts.measured == len({text for _, some in asked for text in some})


def is_measurable(text: str) -> bool:
    try:
        return 0 < len(text.encode()) < 64  # at most a token a byte
    except UnicodeEncodeError:
        return False


def test_a_text_asked_by_many_latents_is_measured_once(
    subject: Subject, coders: Coders, latents: list[LatentId]
) -> None:
    async def use(queue: ProbeQueue) -> None:
        await ask_all(queue, [(latent, TEXTS[:3] * 2) for latent in latents])
        assert queue.counts.forward_passes == 1  # three coders at three hook points
        others = [LatentId(name, 1) for name in coders]
        await ask_all(queue, [(latent, TEXTS[:3]) for latent in others])

    queue = ProbeQueue(subject, coders)
    run(queue, use)
    counts = queue.counts
    assert (counts.measured, counts.forward_passes) == (3, 1)
    assert counts.tokens == sum(len(subject.encode_text(text)) for text in TEXTS[:3])
    assert counts.from_memory == 3 * len(coders)
    assert counts.asked == counts.joined + counts.from_memory + 3 * len(coders)


def test_activations_do_not_depend_on_the_batch(subject: Subject, coders: Coders) -> None:
    latent = LatentId("layers.3-jumprelu", 5)
    together = ProbeQueue(subject, coders, memory=0)

    async def apart(queue: ProbeQueue) -> list[Measurement]:
        return [(await queue.measure([text], latent))[0] for text in TEXTS]

    first = run(together, lambda q: q.measure(TEXTS, latent))
    second = run(ProbeQueue(subject, coders), apart)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.activations, b.activations)


def test_the_cache_on_disk_needs_no_forward_pass(
    subject: Subject, coders: Coders, tmp_path: Path
) -> None:
    path = tmp_path / "cache" / "probes.sqlite"
    asked = [(LatentId(name, 3), TEXTS) for name in coders]
    first = run(ProbeQueue(subject, coders, path), lambda q: ask_all(q, asked))
    again = ProbeQueue(subject, coders, path)
    others = [*asked, (LatentId("layers.1", 4), TEXTS)]  # another latent costs nothing either
    second = run(again, lambda q: ask_all(q, others))
    assert (again.counts.forward_passes, again.counts.measured) == (0, 0)
    assert again.counts.from_disk == len(coders) * len(TEXTS)
    for a, b in zip(chain(*first), chain(*second[:-1]), strict=True):
        np.testing.assert_array_equal(a.activations, b.activations)
        np.testing.assert_array_equal(a.token_ids, b.token_ids)


def test_other_settings_do_not_find_what_was_cached(
    subject: Subject, coders: Coders, tmp_path: Path
) -> None:
    path, latent = tmp_path / "probes.sqlite", LatentId("layers.1", 3)
    coder, hook = coders["layers.1"]
    narrower = SparseCoder(coder.W_enc, coder.b_enc, coder.W_dec, coder.b_dec, TopK(2))
    queues = [
        ProbeQueue(subject, {"layers.1": (coder, hook)}, path),
        ProbeQueue(subject, {"layers.1": (coder, hook)}, path, identity="other weights"),
        ProbeQueue(subject, {"layers.1": (coder, subject.hook_point("layers.2"))}, path),
        ProbeQueue(subject, {"layers.1": (narrower, hook)}, path),
    ]
    for queue in queues:
        run(queue, lambda q: q.measure(TEXTS, latent))
        assert queue.counts.measured == len(TEXTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' has 0 tokens: nothing to measure"),
        ("word " * 80, "has 160 tokens and 63 fit the context"),
        ("a\ud800\nb", r"'a\ud800\nb' holds a lone surrogate"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(
    subject: Subject, coders: Coders, text: str, message: str, tmp_path: Path
) -> None:
    if "word" in text:
        message = message.replace("160", str(len(subject.encode_text(text))))

    async def use(queue: ProbeQueue) -> None:
        with pytest.raises(ProbeError) as caught:
            await queue.measure([TEXTS[0], text], LatentId("layers.1", 0))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert list(caught.value.reasons) == [text]
        await queue.measure(TEXTS[:1], LatentId("layers.1", 0))

    queue = ProbeQueue(subject, coders, tmp_path / "probes.sqlite")
    run(queue, use)
    assert (queue.counts.refused, queue.counts.measured, queue.counts.from_memory) == (1, 1, 1)


def test_the_masked_position_is_zero(subject: Subject) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=4096, n_positions=64, n_embd=16, n_layer=1, n_head=2)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=subject.tokenizer.backend_tokenizer)
    other = Subject(GPT2LMHeadModel(config).eval(), tokenizer, name="gpt2", context_length=16)
    weights = torch.randn(16, 8)
    coder = SparseCoder(weights, torch.ones(8), weights.T, torch.zeros(16), TopK(8, rectify=False))
    coders = {"h": (coder, other.hook_point("h.0"))}
    found: Measurement
    (found,) = run(ProbeQueue(other, coders), lambda q: q.measure([TEXTS[6]], LatentId("h", 2)))
    expected = alone(other, coders, TEXTS[6], LatentId("h", 2))
    assert other.masked == 1
    assert found.activations[0] == 0
    np.testing.assert_allclose(found.activations[1:], expected[1:], rtol=3e-4)
    with pytest.raises(ProbeError, match="1 tokens: the first of a text does not count"):
        run(ProbeQueue(other, coders), lambda q: q.measure(["x"], LatentId("h", 2)))


def test_a_failure_reaches_every_waiting_caller_and_later_ones_are_served(
    subject: Subject, coders: Coders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AutointerpError("the device fell over")

    async def use(queue: ProbeQueue) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(subject, "activations", fail)
            asks = [queue.measure(TEXTS[:i], LatentId("layers.1", i)) for i in (1, 2, 3)]
            for result in await asyncio.gather(*asks, return_exceptions=True):
                assert isinstance(result, AutointerpError)
                assert str(result) == "the device fell over"
        assert len(await queue.measure(TEXTS, LatentId("layers.1", 1))) == len(TEXTS)

    run(ProbeQueue(subject, coders), use)


def test_a_cancelled_caller_breaks_no_other(subject: Subject, coders: Coders) -> None:
    async def use(queue: ProbeQueue) -> list[Measurement]:
        asks = [asyncio.create_task(queue.measure(TEXTS, LatentId("layers.1", i))) for i in (1, 2)]
        await asyncio.sleep(0)
        asks[0].cancel()
        return await asks[1]

    queue = ProbeQueue(subject, coders)
    assert len(run(queue, use)) == len(TEXTS)
    assert queue.counts.measured == len(TEXTS)


def test_closing_cancels_what_waits(subject: Subject, coders: Coders) -> None:
    async def use() -> None:
        async with ProbeQueue(subject, coders) as queue:
            ask = asyncio.create_task(queue.measure(TEXTS * 50, LatentId("layers.1", 0)))
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await ask
        with pytest.raises(RuntimeError, match="inside its `async with`"):
            await queue.measure(TEXTS, LatentId("layers.1", 0))

    asyncio.run(asyncio.wait_for(use(), 30))


@pytest.mark.parametrize(
    ("latent", "message"),
    [
        (LatentId("layers.9", 0), "no coder 'layers.9'"),
        (LatentId("layers.1", 4096), "layers.1/4096 is out of range; layers.1 has 4096 latents"),
    ],
)
def test_unknown_latents_are_refused(
    subject: Subject, coders: Coders, latent: LatentId, message: str
) -> None:
    with pytest.raises(AutointerpError, match=message):
        run(ProbeQueue(subject, coders), lambda q: q.measure(TEXTS, latent))


def test_a_cache_that_is_no_cache_is_one_line(
    subject: Subject, coders: Coders, tmp_path: Path
) -> None:
    path = tmp_path / "probes.sqlite"
    path.write_text("not a database" * 100)
    with pytest.raises(AutointerpError, match="cannot use the probe cache") as caught:
        run(ProbeQueue(subject, coders, path), lambda q: q.measure(TEXTS, LatentId("layers.1", 0)))
    assert "\n" not in str(caught.value)

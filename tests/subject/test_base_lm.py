"""Log probabilities of texts under the demo's model against plain sums, one text at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

from autointerp.latents import AutointerpError, LatentId
from autointerp.subject.base_lm import LocalLM
from autointerp.subject.loading import load_subject
from autointerp.subject.model import Subject
from autointerp.subject.probing import ProbeQueue

LATENT = LatentId("layers.1", 3)
PAIRS = [
    ("# how to add numbers\n", "def add(a, b):\n    return a + b"),
    ("# how to add numbers\n", "x"),
    ("# ", "import os\nimport sys\nfrom pathlib import Path"),
    ("a" * 40, " + 'naïve 😀'"),
    ("class Reader:\n", "    def read(self, size=-1):\n        return self._file.read(size)\n" * 3),
]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return load_subject("demo")


def reference(subject: Subject, before: str, text: str) -> float:
    """The chain rule, token by token, in double precision, each in a forward pass of its own."""
    head = [] if subject.bos_id is None else [subject.bos_id]
    ids, total = head + subject.encode_text(before), 0.0
    for token in subject.encode_text(text):
        with torch.inference_mode():
            logits = subject.model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        total += float(torch.log_softmax(logits, 0)[token])
        ids.append(token)
    return total


def test_a_batch_gives_what_the_chain_rule_gives_one_token_at_a_time(subject: Subject) -> None:
    expected = [reference(subject, *pair) for pair in PAIRS]
    together = LocalLM(subject).measure(PAIRS)
    np.testing.assert_allclose(np.array(together, float), expected, rtol=1e-4)
    alone = [LocalLM(subject).measure([pair])[0] for pair in PAIRS]
    np.testing.assert_allclose(np.array(together, float), np.array(alone, float), rtol=1e-4)


def test_texts_after_the_same_beginning_give_what_they_give_alone(subject: Subject) -> None:
    before = "# how to read and write files\n"
    texts = ["open(path)", "f", "with open(path) as file:\n    return file.read()", "naïve 😀"]
    pairs = [(before, f"{text} # {i}") for i in range(5) for text in texts] + PAIRS
    together = np.array(LocalLM(subject).measure(pairs), float)
    alone = [LocalLM(subject).measure([pair])[0] for pair in pairs]
    np.testing.assert_allclose(together, np.array(alone, float), rtol=1e-4)
    np.testing.assert_allclose(together[:3], [reference(subject, *p) for p in pairs[:3]], rtol=1e-4)


def test_what_cannot_be_measured_says_why_and_the_others_are(subject: Subject) -> None:
    pairs = [("a", "b"), ("a", ""), ("a ", "b \ud800"), ("word " * 400, "b")]
    measured, empty, surrogate, long = LocalLM(subject).measure(pairs)
    assert isinstance(measured, float)
    assert empty == "the text has no tokens"
    assert "lone surrogate" in str(surrogate)
    assert f"{subject.context_length} fit the base model's context" in str(long)


def test_a_likelihood_that_is_not_finite_is_none() -> None:
    small = load_subject("demo")
    with torch.inference_mode():
        small.model.get_output_embeddings().weight[5] = torch.nan
    (found,) = LocalLM(small).measure(PAIRS[:1])
    assert found == "the model's log probabilities of the text are not finite"


@pytest.mark.parametrize("fit", [1, 2])
def test_what_does_not_fit_the_memory_is_read_in_halves(fit: int) -> None:
    small = load_subject("demo")
    expected, model = LocalLM(small).measure(PAIRS), small.model

    def tight(input_ids: torch.Tensor, **options: Any) -> Any:
        if len(input_ids) > fit:
            raise torch.OutOfMemoryError
        return model(input_ids=input_ids, **options)

    small.model = tight
    found = np.array(LocalLM(small).measure(PAIRS), float)
    np.testing.assert_allclose(found, np.array(expected, float), rtol=1e-4)
    fit = 0
    with pytest.raises(AutointerpError, match="does not fit on cpu"):
        LocalLM(small).measure(PAIRS)


def test_many_ask_at_once_and_the_subject_is_probed_meanwhile(subject: Subject) -> None:
    """Hooks that stop a forward pass after a block must not stop another thread's."""
    coders: Any = {"layers.1": _coder(subject)}

    async def work() -> list[list[float | str]]:
        lm = LocalLM(subject)
        async with ProbeQueue(subject, coders) as probes:
            asked = [lm.logprobs([pair]) for pair in PAIRS]
            measured = [probes.measure([f"text {i} {j}"], LATENT) for i in range(9) for j in "ab"]
            found, _ = await asyncio.gather(asyncio.gather(*asked), asyncio.gather(*measured))
        await lm.aclose()
        return list(found)

    found = [nats for (nats,) in asyncio.run(work())]
    alone = LocalLM(subject).measure(PAIRS)
    np.testing.assert_allclose(np.array(found, float), np.array(alone, float), rtol=1e-4)


def _coder(subject: Subject) -> Any:
    from autointerp.config import RunConfig
    from autointerp.pipeline.building import attach, build_coders

    attached = attach(RunConfig(), subject, build_coders(RunConfig()))["layers.1"]
    return attached.coder, attached.hook

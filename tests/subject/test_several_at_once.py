"""Batches that are read at once give what they give one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from autointerp.examples.harvest import collect
from autointerp.examples.options import CorpusOptions, ExampleOptions
from autointerp.latents import AutointerpError
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.loading import DEMO, load_subject
from autointerp.subject.model import Batch, HookPoint, Subject

TEXT = "def parse(self, text):\n    return [int(x) for x in text.split()]\n" * 40


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def subject() -> Subject:
    return load_subject("demo", context_length=32, batch_tokens=100)


@pytest.fixture
def rows(subject: Subject) -> list[list[int]]:
    ids = subject.encode_text(TEXT)
    return [ids[i : i + 1 + i % 31] for i in range(60)]


def hooks_of(subject: Subject) -> list[HookPoint]:
    return [subject.hook_point("layers.0"), subject.hook_point("layers.1")]


@pytest.mark.usefixtures("threads")
def test_batches_come_in_their_order_with_the_same_states(
    subject: Subject, rows: list[list[int]]
) -> None:
    hooks = hooks_of(subject)
    expected = list(subject.activations(rows, hooks))
    found = list(subject.each(rows, hooks, lambda batch: batch))
    assert len(found) > 6
    assert [b.rows for b in found] == [b.rows for b in expected]
    for one, two in zip(found, expected, strict=True):
        for hook in hooks:
            for state, same, length in zip(
                one.states[hook], two.states[hook], one.lengths, strict=True
            ):
                torch.testing.assert_close(state[:length], same[:length], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("threads")
def test_what_goes_wrong_in_a_thread_is_raised_and_the_subject_is_free_again(
    subject: Subject, rows: list[list[int]]
) -> None:
    def use(batch: Batch) -> int:
        if len(batch.rows) > 5:
            raise AutointerpError("more than five rows")
        return len(batch.rows)

    hooks = hooks_of(subject)
    with pytest.raises(AutointerpError, match="more than five rows"):
        list(subject.each(rows, hooks, use))
    assert torch.get_num_threads() == 3
    assert len(list(subject.activations(rows[:1], hooks))) == 1


@pytest.mark.usefixtures("threads")
def test_an_iterator_that_is_closed_lets_the_subject_go(
    subject: Subject, rows: list[list[int]]
) -> None:
    hooks = hooks_of(subject)
    reading = subject.each(rows, hooks, lambda batch: batch.rows)
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert torch.get_num_threads() == 3
    assert len(list(subject.activations(rows[:1], hooks))) == 1


@pytest.mark.usefixtures("threads")
def test_memory_that_runs_out_halves_the_batches_and_loses_no_row(
    subject: Subject, rows: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = subject.model.model.forward

    def limited(*args: object, input_ids: torch.Tensor, **kwargs: object) -> object:
        if input_ids.numel() > 40:
            raise torch.OutOfMemoryError("no memory left")
        return forward(*args, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(subject.model.model, "forward", limited)
    found = subject.each(rows, hooks_of(subject), lambda batch: batch.rows)
    assert sorted(i for batch in found for i in batch) == list(range(len(rows)))


def test_a_store_does_not_depend_on_how_many_batches_are_read_at_once(tmp_path: Path) -> None:
    stores = []
    before = torch.get_num_threads()
    subject = load_subject("demo", context_length=64, batch_tokens=256)
    coder = load_coder(DEMO / "coders" / "layers.1")  # here, since it sums up in several threads
    try:
        for count in (3, 1):
            torch.set_num_threads(count)
            stores.append(
                collect(
                    subject,
                    {"layers.1": (coder, subject.hook_point("layers.1"))},
                    CorpusOptions(tokens=20_000),
                    ExampleOptions(),
                    tmp_path / str(count),
                )
            )
    finally:
        torch.set_num_threads(before)
    three, one = (store.arrays("layers.1") for store in stores)
    assert one.keys() == three.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], three[name], err_msg=name)

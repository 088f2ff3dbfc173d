"""A TopK coder trained on data made of few directions finds most of it, and dead latents revive."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from autointerp.subject.training import Trained, train_topk


def sparse_data(batches: int, scale: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
    """Sums of three of 32 directions in 16 dimensions, off the origin."""
    generator = torch.Generator().manual_seed(0)
    directions = normalize(torch.randn(32, 16, generator=generator), dim=1)
    for _ in range(batches):
        chosen = torch.rand(256, 32, generator=generator).topk(3, dim=1).indices
        strengths = torch.rand(256, 3, generator=generator) + 0.5
        acts = torch.zeros(256, 32).scatter(1, chosen, strengths)
        x = scale * (acts @ directions + 5.0)
        yield x, x


def unexplained(coder: Trained, x: Tensor, k: int) -> float:
    """With the weights as they are stored: the share of variance that is left."""
    pre = (x - coder.b_in) @ coder.encoder.T
    values, columns = pre.topk(k, dim=1)
    acts = torch.zeros_like(pre).scatter(1, columns, values.relu())
    error = x - acts @ coder.decoder - coder.b_out
    return float(error.square().sum() / (x - x.mean(0)).square().sum())


@pytest.mark.parametrize("scale", [0.01, 1.0, 300.0])
def test_most_of_the_variance_is_explained_whatever_the_scale(scale: float) -> None:
    coder = train_topk(sparse_data(600, scale), 600, d_sae=64, k=3, seed=0)
    x, _ = next(sparse_data(1, scale))
    assert unexplained(coder, x, 3) < 0.25
    assert coder.left < 0.25


def test_the_seed_decides() -> None:
    first = train_topk(sparse_data(5), 5, d_sae=64, k=3, seed=0)
    again = train_topk(sparse_data(5), 5, d_sae=64, k=3, seed=0)
    other = train_topk(sparse_data(5), 5, d_sae=64, k=3, seed=1)
    assert torch.equal(first.encoder, again.encoder)
    assert not torch.equal(first.encoder, other.encoder)


def test_input_and_target_may_differ_in_width() -> None:
    pairs = ((x, x[:, :8] * 2) for x, _ in sparse_data(50))
    coder = train_topk(pairs, 50, d_sae=40, k=3, seed=0)
    assert coder.encoder.shape == (40, 16)
    assert coder.decoder.shape == (40, 8)
    with pytest.raises(ValueError, match="nothing to train"):
        train_topk(iter(()), 5, d_sae=4, k=1, seed=0)

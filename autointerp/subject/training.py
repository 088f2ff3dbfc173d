"""Training a plain TopK coder: for controls that need one on a model that nobody trained.

TopK activations and the auxiliary loss that revives dead latents are those of Gao et al., 2024
(arXiv 2406.04093). It serves comparisons; coders worth publishing need more data and care.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

LEARNING_RATE = 2e-3
IDLE = 50_000  # tokens without activity after which a latent counts as dead
REVIVED = 64  # dead latents that help to explain what is left
REVIVAL = 1 / 32  # the weight of their loss
EPSILON = 1e-8


@dataclass(frozen=True)
class Trained:
    """The weights of a TopK coder that reads x less ``b_in`` and predicts y.

    ``left`` is the share of the variance of y that the last batch left unexplained.
    """

    encoder: Tensor  # [d_sae, d_in]
    decoder: Tensor  # [d_sae, d_out]
    b_in: Tensor  # [d_in]
    b_out: Tensor  # [d_out]
    left: float


class _Model(torch.nn.Module):
    """Reads and predicts in units of the data's spread, less its mean."""

    idle: Tensor  # [d_sae], tokens since each latent was last active

    def __init__(self, x: Tensor, y: Tensor, d_sae: int, k: int, seed: int) -> None:
        super().__init__()
        self.k = k
        self.mean_x, self.mean_y = x.mean(0), y.mean(0)
        self.scale_x = 1 / ((x - self.mean_x).norm(dim=1).mean() + EPSILON)
        self.scale_y = 1 / ((y - self.mean_y).norm(dim=1).mean() + EPSILON)
        generator = torch.Generator().manual_seed(seed)
        rows = normalize(torch.randn(d_sae, x.shape[1], generator=generator), dim=1).to(x.device)
        if y.shape[1] == x.shape[1]:
            out = rows.clone()
        else:
            out = normalize(torch.randn(d_sae, y.shape[1], generator=generator), dim=1).to(x.device)
        self.encoder, self.decoder = torch.nn.Parameter(rows), torch.nn.Parameter(out)
        self.register_buffer("idle", torch.zeros(d_sae, device=x.device))

    def loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, float]:
        """x [n, d_in], y [n, d_out]; the loss, and the share of variance that is left."""
        target = (y - self.mean_y) * self.scale_y
        pre = ((x - self.mean_x) * self.scale_x) @ self.encoder.T
        acts = _largest(pre, self.k)
        error = target - acts @ self.decoder
        total = (target - target.mean(0)).square().sum() + EPSILON
        left = error.square().sum() / total
        self.idle += len(x)
        self.idle[(acts.detach() > 0).any(0)] = 0
        dead = self.idle > IDLE
        if not bool(dead.any()):
            return left, float(left.detach())
        guess = _largest(pre[:, dead], REVIVED) @ self.decoder[dead]
        return left + REVIVAL * (error.detach() - guess).square().sum() / total, float(
            left.detach()
        )

    @torch.no_grad()
    def unit_decoder(self) -> None:
        self.decoder.copy_(normalize(self.decoder, dim=1))


def _largest(pre: Tensor, k: int) -> Tensor:
    """The k largest of each row where they are positive, zero elsewhere."""
    values, columns = pre.topk(min(k, pre.shape[1]), dim=1, sorted=False)
    return torch.zeros_like(pre).scatter(1, columns, values.relu())


def train_topk(
    batches: Iterable[tuple[Tensor, Tensor]], steps: int, *, d_sae: int, k: int, seed: int
) -> Trained:
    """Train on pairs (x [n, d_in], y [n, d_out]) in float32; the first sets means and scales.

    The learning rate falls to nothing over the last third of ``steps``; further batches are not
    read.

    Raises:
        ValueError: if there is no batch.
    """
    model: _Model | None = None
    left = 1.0
    for step, (x, y) in zip(range(steps), batches, strict=False):
        if model is None:
            model = _Model(x, y, d_sae, k, seed)
            optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, 3 * (steps - step) / steps)
        loss, left = model.loss(x, y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        model.unit_decoder()
    if model is None:
        raise ValueError("there is nothing to train a coder on")
    return Trained(
        encoder=(model.encoder * model.scale_x).detach(),
        decoder=(model.decoder / model.scale_y).detach(),
        b_in=model.mean_x,
        b_out=model.mean_y,
        left=left,
    )

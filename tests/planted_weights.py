"""The planted world as weights: a GPT-2 built by hand, and its tokenizer.

How the residual stream of block 0 is laid out (``Layout``): a one-hot token, a constant that
keeps the mean at zero, the position on eight circles (and its mirror image), a one-hot of the
previous token, a yes and a no per remembered token, and one direction per latent. Mean and norm
are the same for every text before each layer norm in use, so that the norms' gains undo them
exactly. Block 0's heads copy the previous token and look for the remembered ones; its MLP has one
ReLU neuron per latent, which computes the rule and writes the latent's own direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from planted import BOS, UNKNOWN, PlantedLatent, Truth
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

POSITIONS = 256
_RATES = tuple(2 * math.pi * k / POSITIONS for k in (3, 11, 29, 43, 61, 83, 101, 127))
_RADIUS = 0.25  # of the circles: positions must not drown the rest of the variance
_SHARPNESS = 60.0  # attention logits between the right place and the next best, at least
_JITTER = 0.05  # how far the position moves an activation, as a share of the scale
_REST = -0.1  # a neuron's drive where nothing speaks for it


@dataclass(frozen=True)
class Layout:
    """First index of each stretch of the residual stream."""

    truth: Truth
    tokens: int
    constant: int
    circles: int
    previous: int
    flags: int
    latents: int
    width: int
    heads: int

    @classmethod
    def of(cls, truth: Truth) -> Layout:
        constant = len(truth.vocabulary)
        circles = constant + 1
        previous = circles + 4 * len(_RATES)
        flags = previous + len(truth.context_tokens) + 1  # the last one: any other token
        latents = flags + 2 * len(truth.earlier_tokens)
        heads = 1 + len(truth.earlier_tokens)
        width = -(-(latents + len(truth.latents)) // heads) * heads
        return cls(truth, 0, constant, circles, previous, flags, latents, width, heads)

    def token(self, word: str) -> int:
        return self.tokens + self.truth.vocabulary.index(word)

    def context(self, word: str) -> int:
        return self.previous + self.truth.context_tokens.index(word)

    def flag(self, word: str) -> int:
        return self.flags + self.truth.earlier_tokens.index(word)

    def directions(self) -> Tensor:
        """The latents' own unit directions, orthogonal but not the axes; [latents, width]."""
        n = len(self.truth.latents)
        generator = torch.Generator().manual_seed(7)
        basis = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
        out = torch.zeros(n, self.width)
        out[:, self.latents : self.latents + n] = basis.float()
        return out


def _positions() -> Tensor:
    """Positions on the circles, cosine and sine by turns; [POSITIONS, 2 × circles]."""
    angles = torch.arange(POSITIONS, dtype=torch.float64)[:, None] * torch.tensor(_RATES).double()
    return torch.stack([angles.cos(), angles.sin()], dim=2).flatten(1).float() * _RADIUS


def _undo_norm(weight: Tensor, square: float, eps: float = 1e-5) -> None:
    """Make a layer norm the identity on zero-mean vectors of squared norm ``square``."""
    weight.fill_(math.sqrt(square / weight.numel() + eps))


def _embed(model: GPT2LMHeadModel, layout: Layout) -> None:
    words = len(layout.truth.vocabulary)
    table = model.transformer.wte.weight
    table[:, :words] = torch.eye(words)
    table[:, layout.constant] = -1.0
    n = 2 * len(_RATES)
    places = model.transformer.wpe.weight
    places[:, layout.circles : layout.circles + n] = _positions()
    places[:, layout.circles + n : layout.circles + 2 * n] = -_positions()


def _previous_head(attention: torch.nn.Module, layout: Layout, size: int) -> None:
    """Head 0: ask for the position before, copy its token where some rule looks for it."""
    width, qkv, out = layout.width, attention.c_attn.weight, attention.c_proj.weight
    codes = _positions()
    others = (codes @ codes[0])[1:].max().item()
    same = (codes[0] @ codes[0]).item()
    sharpness = _SHARPNESS / (same - others) * math.sqrt(size)
    for i, rate in enumerate(_RATES):
        cosine, sine = layout.circles + 2 * i, layout.circles + 2 * i + 1
        turn = sharpness * torch.tensor(
            [[math.cos(rate), -math.sin(rate)], [math.sin(rate), math.cos(rate)]]
        )
        qkv[cosine : sine + 1, 2 * i : 2 * i + 2] = turn
        qkv[cosine : sine + 1, width + 2 * i : width + 2 * i + 2] = torch.eye(2)
    for token, word in enumerate(layout.truth.vocabulary):
        known = word in layout.truth.context_tokens
        slot = layout.context(word) - layout.previous if known else len(layout.truth.context_tokens)
        qkv[layout.tokens + token, 2 * width + slot] = 1.0
    slots = len(layout.truth.context_tokens) + 1
    out[:slots, layout.previous : layout.previous + slots] = torch.eye(slots)


def _memory_heads(attention: torch.nn.Module, layout: Layout, size: int) -> None:
    """One head per remembered token: all attention on it if it is there, and say so."""
    width, words = layout.width, layout.truth.earlier_tokens
    for number, word in enumerate(words):
        start = (1 + number) * size
        attention.c_attn.bias[start] = _SHARPNESS * math.sqrt(size)  # every query asks
        attention.c_attn.weight[layout.token(word), width + start] = 1.0
        attention.c_attn.weight[layout.token(word), 2 * width + start] = 1.0
        yes = layout.flag(word)
        attention.c_proj.weight[start, yes] = 1.0
        attention.c_proj.weight[start, yes + len(words)] = -1.0
        attention.c_proj.bias[yes + len(words)] = 1.0
    attention.c_proj.bias[layout.constant] = -1.0 - len(words)


def _neuron(layout: Layout, latent: PlantedLatent) -> tuple[Tensor, float]:
    """Weights and bias of the neuron that computes a latent's rule, before its scale."""
    rule, weights, bias = latent.rule, torch.zeros(layout.width), _REST
    for word, strength in rule.strengths.items():
        weights[layout.token(word)] = strength
    for word in rule.decoys:
        weights[layout.token(word)] = 0.25
    for word in rule.previous:
        weights[layout.context(word)] = 1.0
    for word in rule.unless_previous:
        weights[layout.context(word)] = -1.5
    if rule.earlier is not None:
        weights[layout.flag(rule.earlier)] = 1.0
    if rule.previous or rule.earlier is not None:
        bias -= 1.0
    weights[layout.circles + latent.index % (2 * len(_RATES))] = _JITTER / _RADIUS
    return weights, bias


def neurons(layout: Layout) -> tuple[Tensor, Tensor]:
    """All neurons: weights [width, latents] and biases [latents], times the latents' scales."""
    rows, biases = zip(*(_neuron(layout, latent) for latent in layout.truth.latents), strict=True)
    sizes = scales(layout.truth)
    return torch.stack(rows, dim=1) * sizes, torch.tensor(biases) * sizes


def scales(truth: Truth) -> Tensor:
    """Units of activation a unit of drive, by latent; [latents]."""
    return torch.tensor([latent.scale for latent in truth.latents])


def _unembed(model: GPT2LMHeadModel, layout: Layout, directions: Tensor) -> None:
    """Each latent's direction raises its promoted tokens and nothing else."""
    head = model.lm_head.weight
    for latent in layout.truth.latents:
        for word in latent.promoted:
            head[layout.truth.vocabulary.index(word)] += 3.0 * directions[latent.index]
    _undo_norm(model.transformer.ln_f.weight, 64.0)


def second_offset(layout: Layout) -> Tensor:
    """What block 1 adds to every position: its residual is block 0's, moved. [width]"""
    generator = torch.Generator().manual_seed(11)
    return torch.randn(layout.width, generator=generator)


@torch.no_grad()
def build_model(truth: Truth) -> GPT2LMHeadModel:
    """A two-block GPT-2 that computes every rule in block 0."""
    layout = Layout.of(truth)
    config = GPT2Config(
        vocab_size=len(truth.vocabulary), n_positions=POSITIONS, n_embd=layout.width,
        n_layer=2, n_head=layout.heads, n_inner=len(truth.latents), activation_function="relu",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=False,
        bos_token_id=truth.vocabulary.index(BOS), eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
    first, second = model.transformer.h
    size = layout.width // layout.heads
    _embed(model, layout)
    _previous_head(first.attn, layout, size)
    _memory_heads(first.attn, layout, size)
    circles = 2.0 * len(_RATES) * _RADIUS**2
    flags = len(truth.earlier_tokens)
    _undo_norm(first.ln_1.weight, 2.0 + circles)
    _undo_norm(first.ln_2.weight, 2.0 + circles + flags + (2.0 + flags) ** 2)
    first.mlp.c_fc.weight[:], first.mlp.c_fc.bias[:] = neurons(layout)
    directions = layout.directions()
    first.mlp.c_proj.weight[:] = directions
    second.mlp.c_proj.bias[:] = second_offset(layout)
    _unembed(model, layout, directions)
    return model


def build_tokenizer(truth: Truth) -> PreTrainedTokenizerFast:
    """Words between blanks, one id each; no padding token, no post-processor."""
    ids = {word: i for i, word in enumerate(truth.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, unk_token=UNKNOWN)

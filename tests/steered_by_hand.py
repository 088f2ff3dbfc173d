"""Subjects to steer, and steering as a naive loop does it: one row, one full forward pass."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from planted_coders import SAELENS, TOPK, TRANSCODER, Planted
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from autointerp.latents import LatentId
from autointerp.subject.activation_functions import TopK, relu
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.coders import SparseCoder
from autointerp.subject.loading import load_subject
from autointerp.subject.model import HookPoint, Subject
from autointerp.subject.steering import Steering

Attached = dict[str, tuple[SparseCoder, HookPoint, HookPoint | None]]
Prompts = list[NDArray[np.int32]]

WIDTH, VOCABULARY = 24, 50


@dataclass(frozen=True)
class World:
    subject: Subject
    attached: Attached
    prompts: Prompts

    def steering(self, **options: Any) -> Steering:
        return Steering(self.subject, self.attached, **options)

    def latents(self) -> list[LatentId]:
        return [LatentId(name, 3) for name in self.attached]


def random_coder(seed: int, d_out: int = WIDTH, **options: Any) -> SparseCoder:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    activation = options.pop("activation", relu())
    weights = random(WIDTH, 12), random(12, d_out), 0.1 * random(12), 0.1 * random(d_out)
    return SparseCoder.assemble(*weights, activation, subtract_b_dec=False, **options)


def llama_world() -> World:
    """Two blocks with grouped heads, no BOS, and a coder of every normalisation."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3, bos_token_id=None,
        eos_token_id=None, max_position_embeddings=64,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    demo = load_subject("demo")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=demo.tokenizer.backend_tokenizer)
    subject = Subject(model, tokenizer, name="llama", context_length=40)
    first, second = subject.hook_point("layers.0"), subject.hook_point("layers.1")
    mlp, written = subject.hook_point("layers.0.mlp.input"), subject.hook_point("layers.0.mlp")
    attached: Attached = {
        "plain": (random_coder(1), first, None),
        "topk": (random_coder(2, activation=TopK(3)), second, None),
        "signed": (random_coder(8, activation=TopK(3, "magnitude", False)), first, None),
        "layer": (random_coder(3, normalisation="layer_norm"), first, None),
        "constant": (random_coder(4, normalisation="constant_norm"), second, second),
        "centred": (random_coder(5, normalisation="constant_norm", center=True), first, None),
        "input": (random_coder(6, normalisation="layer_norm"), mlp, None),
        "transcoder": (random_coder(7, normalisation="constant_norm"), mlp, written),
    }
    random = np.random.default_rng(0)
    lengths = [1, 2, 5, 5, 9, 16]
    return World(
        subject, attached, [random.integers(0, VOCABULARY, n).astype(np.int32) for n in lengths]
    )


def planted_world(planted: Planted) -> World:
    subject = load_subject(str(planted.files.model), context_length=64)
    places = {SAELENS: ("h.0", None), TOPK: ("h.1", None), TRANSCODER: ("h.0.mlp.input", "h.0.mlp")}
    attached: Attached = {
        name: (
            load_coder(planted.files.coders[name]),
            subject.hook_point(hook),
            None if to is None else subject.hook_point(to),
        )
        for name, (hook, to) in places.items()
    }
    ids = subject.encode_texts(planted.texts[:8])
    return World(subject, attached, [row[: 16 + 5 * i] for i, row in enumerate(ids)])


def steered_by_hand(
    world: World,
    prompt: Sequence[int],
    coder_name: str,
    change: Callable[[SparseCoder, Tensor], Tensor],
    begin: int | None = None,
) -> Tensor:
    """Log-probabilities after a row whose positions from ``begin`` on get ``change`` (of what
    the coder reads, [n, d_in]) added where it writes; the last position alone unless told."""
    subject = world.subject
    coder, reads, writes = world.attached[coder_name]
    writes = writes or reads
    extra = [] if subject.bos_id is None else [subject.bos_id]
    start = len(extra) + (len(prompt) - 1 if begin is None else begin)
    seen: dict[str, Tensor] = {}

    def read(x: Tensor) -> None:
        seen["x"] = x[0, start:].clone()

    def write(x: Tensor) -> Tensor:
        x = x.clone()
        x[0, start:] = (x[0, start:].float() + change(coder, seen["x"])).to(x.dtype)
        return x

    handles = [plain_hook(subject, reads, read), plain_hook(subject, writes, write)]
    with torch.no_grad():
        logits = subject.model(torch.tensor([[*extra, *prompt]]), use_cache=False).logits
    for handle in handles:
        handle.remove()
    return logits[0, -1].float().log_softmax(-1)


def plain_hook(subject: Subject, hook: HookPoint, see: Callable[[Tensor], Tensor | None]) -> Any:
    module = subject.model.get_submodule(hook.module)
    if hook.side == "input":
        return module.register_forward_pre_hook(lambda _m, args: see(args[0]))

    def after(_module: Any, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            changed = see(output[0])
            return None if changed is None else (changed, *output[1:])
        return see(output)

    return module.register_forward_hook(after)


def scale(coder: SparseCoder, x: Tensor) -> Tensor:
    """The de-normalisation of each token, from its definition: [n, 1]."""
    factors = []
    for row in x.double().tolist():
        mean = sum(row) / len(row)
        if coder.normalisation == "layer_norm":
            factors.append((sum((v - mean) ** 2 for v in row) / (len(row) - 1)) ** 0.5)
        elif coder.normalisation == "constant_norm":
            kept = [v - mean for v in row] if coder.center else row
            factors.append((sum(v * v for v in kept) / len(kept)) ** 0.5)
        else:
            factors.append(1.0)
    return torch.tensor(factors)[:, None]


def addition(latent: LatentId, s: float) -> Callable[[SparseCoder, Tensor], Tensor]:
    return lambda coder, x: s * scale(coder, x) * coder.W_dec[latent.index]


def ablation(latent: LatentId) -> Callable[[SparseCoder, Tensor], Tensor]:
    def change(coder: SparseCoder, x: Tensor) -> Tensor:
        own = coder.encode(x.float())[:, latent.index, None]
        return -own * scale(coder, x) * coder.W_dec[latent.index]

    return change


def run(steering: Steering, use: Callable[[Steering], Awaitable[Any]]) -> Any:
    async def inside() -> Any:
        async with steering:
            return await asyncio.wait_for(use(steering), 60)

    return asyncio.run(inside())

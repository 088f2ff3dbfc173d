"""The embedded subject's tokenizer and language model: how they are trained."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BOS = "<|endoftext|>"
VOCABULARY = 4096
WIDTH = 192
ROW = 256
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def train_tokenizer(texts: list[str], out: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE of ``VOCABULARY`` tokens whose first id is BOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, 0)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS)
    fast.save_pretrained(out)
    return fast


class Rows:
    """Random rows of ``ROW`` tokens, each starting with BOS, from the concatenated corpus."""

    def __init__(self, tokens: np.ndarray, seed: int) -> None:
        self.tokens = tokens
        self.random = np.random.default_rng(seed)

    def batch(self, rows: int) -> torch.Tensor:
        starts = self.random.integers(0, len(self.tokens) - ROW, rows)
        ids = self.tokens[starts[:, None] + np.arange(ROW - 1)]
        ids = np.concatenate([np.zeros((rows, 1), ids.dtype), ids], axis=1)
        return torch.from_numpy(ids.astype(np.int64)).to(DEVICE)

    def fixed(self, batches: int) -> Iterator[torch.Tensor]:
        """Batches of 16 rows, the same at every call."""
        rows = Rows(self.tokens, 1)
        return (rows.batch(16) for _ in range(batches))


def autocast() -> torch.autocast:
    return torch.autocast(DEVICE, dtype=torch.bfloat16)


def train_model(rows: Rows, steps: int, batch: int) -> LlamaForCausalLM:
    """Muon on the matrices of the blocks, AdamW on the rest; warm up, hold, cool down."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config).to(DEVICE)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "layers" not in n]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=4e-3, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / 50, (steps - step) / (0.5 * steps))

    schedules = [torch.optim.lr_scheduler.LambdaLR(o, rate) for o in optimizers]
    started = time.time()
    for step in range(steps):
        ids = rows.batch(batch)
        with autocast():
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        if step % 50 == 0:
            speed = (step + 1) * batch * ROW / (time.time() - started)
            print(f"model {step}/{steps} loss {loss.item():.3f} {speed:,.0f} tokens/s", flush=True)
    return model.eval()


@torch.no_grad()
def evaluate(model: LlamaForCausalLM, rows: Rows) -> float:
    """Mean loss in nats a token over fixed held-out rows."""
    losses = [model(input_ids=ids, labels=ids).loss.item() for ids in rows.fixed(8)]
    return float(np.mean(losses))

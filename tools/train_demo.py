"""Train the embedded subject: a small Llama-style model and sparse coders.

The corpus is the standard library of the running Python. Runs on CPU (bfloat16 autocast
where the processor has it) or on a GPU, writes ``autointerp/demo`` and its model card.

    python tools/train_demo.py                  # the whole thing, about 40 minutes on two cores
    python tools/train_demo.py --quick --out D  # a small, bad one, for trying the script
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from autointerp.examples import stdlib
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.coders import SparseCoder

BOS = "<|endoftext|>"
VOCABULARY = 4096
WIDTH = 192
ROW = 256
WINDOW = 32
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class CoderPlan:
    """One coder to train. ``layout`` is the on-disk format; ``path`` its place in the demo."""

    path: str
    layout: str
    block: int
    kind: str
    width: int
    k: int
    transcode: bool = False


PLANS = [
    CoderPlan("coders/layers.0", "sparsify", 0, "topk", 2048, 6),
    CoderPlan("coders/layers.1", "sparsify", 1, "topk", 4096, 8),
    CoderPlan("coders/layers.2", "sparsify", 2, "topk", 2048, 12),
    CoderPlan("coders/layers.3-jumprelu", "saelens", 3, "batchtopk", 2048, 12),
    CoderPlan("coders/layers.2.mlp", "sparsify", 2, "topk", 2048, 12, transcode=True),
]


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
    return float(np.mean([model(input_ids=ids, labels=ids).loss.item() for ids in _fixed(rows, 8)]))


def _fixed(rows: Rows, batches: int) -> Iterator[torch.Tensor]:
    rows.random = np.random.default_rng(1)
    for _ in range(batches):
        yield rows.batch(16)


class Coder(torch.nn.Module):
    """A TopK or BatchTopK coder with an auxiliary loss that revives dead latents.

    Gao et al. 2024 (arXiv 2406.04093) for TopK and the auxiliary loss, Bussmann et al. 2024
    (arXiv 2412.06410) for BatchTopK and the single inference threshold.
    """

    def __init__(self, plan: CoderPlan, mean_in: torch.Tensor, mean_out: torch.Tensor) -> None:
        super().__init__()
        self.plan = plan
        generator = torch.Generator().manual_seed(plan.block + 10 * plan.transcode)
        directions = torch.randn(plan.width, WIDTH, generator=generator)
        directions = torch.nn.functional.normalize(directions, dim=1).to(DEVICE)
        self.W_enc = torch.nn.Parameter(directions.clone())
        self.W_dec = torch.nn.Parameter(directions if not plan.transcode else directions * 0.1)
        bias = -(directions @ mean_in) if plan.transcode else torch.zeros(plan.width).to(DEVICE)
        self.b_enc = torch.nn.Parameter(bias)
        self.b_dec = torch.nn.Parameter(mean_out.clone())
        self.register_buffer("idle", torch.zeros(plan.width, device=DEVICE))
        self.register_buffer("threshold", torch.zeros((), device=DEVICE))

    def pre(self, x: torch.Tensor) -> torch.Tensor:
        return (x if self.plan.transcode else x - self.b_dec) @ self.W_enc.T + self.b_enc

    def sparse(self, pre: torch.Tensor) -> torch.Tensor:
        acts = pre.relu()
        if self.plan.kind == "topk":
            top = acts.topk(self.plan.k, dim=1, sorted=False)
            return torch.zeros_like(acts).scatter(1, top.indices, top.values)
        kept = acts.flatten().topk(self.plan.k * len(acts), sorted=False).values.min()
        with torch.no_grad():
            self.threshold.lerp_(kept.float(), 0.01 if self.threshold > 0 else 1.0)
        return acts * (acts >= kept)

    def infer(self, x: torch.Tensor) -> torch.Tensor:
        pre = self.pre(x)
        if self.plan.kind == "topk":
            return self.sparse(pre)
        return pre.relu() * (pre > self.threshold)

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with autocast():
            pre = self.pre(x)
            acts = self.sparse(pre)
            rebuilt = acts @ self.W_dec
        error = y - rebuilt.float() - self.b_dec
        scale = (y - y.mean(0)).square().sum()
        self.idle += len(x)
        self.idle[(acts.detach() > 0).any(0)] = 0
        dead = self.idle > 200_000
        loss = error.square().sum() / scale
        if dead.any():
            with autocast():
                few = pre[:, dead]
                top = few.topk(min(64, few.shape[1]), dim=1, sorted=False)
                revived = torch.zeros_like(few).scatter(1, top.indices, top.values.relu())
                guess = revived @ self.W_dec[dead]
            loss = loss + (error.detach() - guess.float()).square().sum() / scale / 32
        return loss

    @torch.no_grad()
    def normalise(self) -> None:
        if not self.plan.transcode:
            self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)


@torch.no_grad()
def activations(
    model: LlamaForCausalLM, ids: torch.Tensor, plans: list[CoderPlan]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Input and target of each plan's coder, [rows · (ROW − 1), WIDTH]; position 0 is left out."""
    seen: dict[str, torch.Tensor] = {}
    handles = []
    for i, block in enumerate(model.model.layers):
        handles.append(block.register_forward_hook(lambda m, a, o, i=i: seen.update({f"{i}": o})))
        handles.append(
            block.mlp.register_forward_hook(
                lambda m, a, o, i=i: seen.update({f"{i}.in": a[0], f"{i}.out": o})
            )
        )
    with autocast():
        model.model(input_ids=ids)
    for handle in handles:
        handle.remove()
    flat = {name: t.float()[:, 1:].reshape(-1, WIDTH) for name, t in seen.items()}
    return {
        p.path: (
            (flat[f"{p.block}.in"], flat[f"{p.block}.out"])
            if p.transcode
            else (flat[f"{p.block}"], flat[f"{p.block}"])
        )
        for p in plans
    }


def train_coders(
    model: LlamaForCausalLM, plans: list[CoderPlan], rows: Rows, steps: int, batch: int
) -> dict[str, Coder]:
    """Train the planned coders on one stream of activations."""
    first = activations(model, rows.batch(64), plans)
    coders = {p.path: Coder(p, first[p.path][0].mean(0), first[p.path][1].mean(0)) for p in plans}
    optimizers = {
        path: torch.optim.Adam(coder.parameters(), lr=2e-3 if not coder.plan.transcode else 1e-3)
        for path, coder in coders.items()
    }
    started = time.time()
    for step in range(steps):
        batches = activations(model, rows.batch(batch), plans)
        factor = min(1.0, (step + 1) / 50, (steps - step) / (0.3 * steps))
        for path, coder in coders.items():
            optimizer = optimizers[path]
            for group in optimizer.param_groups:
                group["lr"] = factor * (1e-3 if coder.plan.transcode else 2e-3)
            loss = coder.loss(*batches[path])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            coder.normalise()
            if step % 50 == 0:
                dead = float((coder.idle > 200_000).float().mean())
                print(f"  {path} {step}/{steps} FVU {loss.item():.3f} dead {dead:.3f}", flush=True)
        if step % 50 == 0:
            print(f"{(step + 1) * batch * (ROW - 1) / (time.time() - started):,.0f} tokens/s")
    return coders


@torch.no_grad()
def measure(model: LlamaForCausalLM, out: Path, rows: Rows) -> list[dict]:
    """L0, variance explained, dead share and activity per window of the coders as shipped."""
    return [measure_coder(model, plan, load_coder(out / plan.path), rows) for plan in PLANS]


def measure_coder(
    model: LlamaForCausalLM, plan: CoderPlan, coder: SparseCoder, rows: Rows
) -> dict[str, object]:
    fired = torch.zeros(plan.width)
    windows_active = torch.zeros(plan.width)
    error = total = tokens = windows = 0.0
    for ids in _fixed(rows, 40):
        x, y = (t.cpu() for t in activations(model, ids, [plan])[plan.path])
        acts = coder.encode(x)
        error += (y - coder.decode(acts, x)).square().sum().item()
        total += (y - y.mean(0)).square().sum().item()
        on = acts > 0
        fired += on.sum(0)
        in_windows = on.view(len(ids), ROW - 1, -1)[:, : (ROW - 1) // WINDOW * WINDOW]
        active = in_windows.reshape(-1, WINDOW, plan.width).any(1)
        windows_active += active.sum(0)
        tokens, windows = tokens + len(x), windows + len(active)
    alive = fired > 0
    return {
        "path": plan.path,
        "layout": plan.layout,
        "kind": plan.kind + (" transcoder" if plan.transcode else ""),
        "width": plan.width,
        "l0": float(fired.sum() / tokens),
        "variance_explained": 1 - error / total,
        "dead": float((~alive).float().mean()),
        "median_window_share": float((windows_active[alive] / windows).median()),
    }


def half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", torch.bfloat16).contiguous()


def save_sparsify(coder: Coder, folder: Path) -> None:
    plan = coder.plan
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "encoder.weight": half(coder.W_enc),
        "encoder.bias": half(coder.b_enc),
        "W_dec": half(coder.W_dec),
        "b_dec": half(coder.b_dec),
    }
    save_file(tensors, folder / "sae.safetensors")
    cfg = {
        "activation": "topk",
        "expansion_factor": 32,
        "normalize_decoder": not plan.transcode,
        "num_latents": plan.width,
        "k": plan.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": plan.transcode,
        "d_in": WIDTH,
    }
    (folder / "cfg.json").write_text(json.dumps(cfg, indent=1) + "\n")


def save_saelens(coder: Coder, folder: Path) -> None:
    plan = coder.plan
    folder.mkdir(parents=True, exist_ok=True)
    norms = coder.W_dec.norm(dim=1)
    threshold = coder.threshold * norms
    tensors = {
        "W_enc": half((coder.W_enc * norms[:, None]).T),
        "b_enc": half(coder.b_enc * norms),
        "W_dec": half(coder.W_dec / norms[:, None]),
        "b_dec": half(coder.b_dec),
        "threshold": half(threshold),
    }
    save_file(tensors, folder / "sae_weights.safetensors")
    cfg = {
        "d_in": WIDTH,
        "d_sae": plan.width,
        "dtype": "bfloat16",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "architecture": "jumprelu",
        "metadata": {
            "sae_lens_version": "6.54.12",
            "model_name": "autointerp-demo",
            "hook_name": f"blocks.{plan.block}.hook_resid_post",
            "hf_hook_name": f"model.layers.{plan.block}",
            "prepend_bos": True,
            "context_size": ROW,
        },
    }
    (folder / "cfg.json").write_text(json.dumps(cfg, indent=1) + "\n")


def card(figures: dict, coders: list[dict]) -> str:
    lines = [
        "# The embedded subject",
        "",
        "A small Llama-style model and sparse coders on it, trained by `tools/train_demo.py` on",
        "the sources and docstrings of the Python standard library. It exists so that every",
        "command has something real to work on; it is no use as a language model.",
        "",
        "| | |",
        "|---|---|",
        *[f"| {name} | {value} |" for name, value in figures.items()],
        "",
        "| coder | layout | kind | width | L0 | variance explained | dead share |"
        " windows of 32 tokens where the median latent is active |",
        "|---|---|---|---|---|---|---|---|",
        *[
            f"| `{c['path']}` | {c['layout']} | {c['kind']} | {c['width']} | {c['l0']:.1f} |"
            f" {c['variance_explained']:.3f} | {c['dead']:.2%} | {c['median_window_share']:.1%} |"
            for c in coders
        ],
        "",
        "All weights are bfloat16. Rows start with `<|endoftext|>`; position 0 was left out of the",
        "coders' training. Figures are on held-out text, in float32.",
        "",
        "Licence: Apache-2.0 for the weights; the text is the Python standard library (PSF).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("autointerp/demo"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model-steps", type=int, default=1500)
    parser.add_argument("--coder-steps", type=int, default=520)
    parser.add_argument(
        "--coder", action="append", help="train only this coder, on the model that is in --out"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.model_steps, arguments.coder_steps = 150, 100
    texts = list(stdlib.texts())
    fingerprint = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    print(f"corpus {fingerprint}: {len(texts)} documents, Python {platform.python_version()}")
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    if arguments.coder:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    else:
        tokenizer = train_tokenizer(texts, out)
    held = [int(hashlib.sha256(t.encode()).hexdigest(), 16) % 50 == 0 for t in texts]
    documents = [np.array(ids, np.int32) for ids in tokenizer(texts)["input_ids"]]
    train = np.concatenate([d for d, h in zip(documents, held, strict=True) if not h])
    test = np.concatenate([d for d, h in zip(documents, held, strict=True) if h])
    print(f"{len(train):,} tokens to train on, {len(test):,} held out")

    batch = 32
    if not arguments.coder:
        trained = train_model(Rows(train, 0), arguments.model_steps, batch)
        trained.to(torch.bfloat16).save_pretrained(out)
    # The coders see the weights as they are shipped.
    model = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32).to(DEVICE).eval()
    loss = evaluate(model, Rows(test, 1))
    print(f"model loss {loss:.3f}")
    plans = [p for p in PLANS if not arguments.coder or p.path in arguments.coder]
    coders = train_coders(model, plans, Rows(train, 2), arguments.coder_steps, batch)
    for coder in coders.values():
        save = save_sparsify if coder.plan.layout == "sparsify" else save_saelens
        save(coder, out / coder.plan.path)
    figures = {
        "data": f"Python {platform.python_version()} standard library, fingerprint `{fingerprint}`",
        "tokens in the corpus": f"{len(train):,} (and {len(test):,} held out)",
        "tokens trained on, model": f"{arguments.model_steps * batch * ROW:,}",
        "tokens trained on, each coder": f"{arguments.coder_steps * batch * (ROW - 1):,}",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}"
        f" (4 blocks, {WIDTH} wide, {VOCABULARY:,} tokens)",
        "held-out loss, nats a token": f"{loss:.3f}",
    }
    text = card(figures, measure(model, out, Rows(test, 3)))
    (out / "README.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

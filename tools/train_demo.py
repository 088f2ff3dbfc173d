"""Train the embedded subject: a small Llama-style model and sparse coders.

The corpus is the standard library of the running Python. Runs on CPU (bfloat16 autocast
where the processor has it) or on a GPU, writes ``autointerp/demo`` and its model card.

    python tools/train_demo.py                  # the whole thing, about 40 minutes on two cores
    python tools/train_demo.py --quick --out D  # a small, bad one, for trying the script
"""

from __future__ import annotations

import argparse
import hashlib
import platform
from pathlib import Path

import numpy as np
import torch
from demo_coders import CoderPlan, activations, save, train_coders
from demo_model import DEVICE, ROW, VOCABULARY, WIDTH, Rows, evaluate, train_model, train_tokenizer
from numpy.typing import NDArray
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from autointerp.examples import stdlib
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.coders import SparseCoder

BATCH = 32  # rows
WINDOW = 32  # tokens
PLANS = [
    CoderPlan("coders/layers.0", "sparsify", 0, "topk", 2048, 6),
    CoderPlan("coders/layers.1", "sparsify", 1, "topk", 4096, 8),
    CoderPlan("coders/layers.2", "sparsify", 2, "topk", 2048, 12),
    CoderPlan("coders/layers.3-jumprelu", "saelens", 3, "batchtopk", 2048, 12),
    CoderPlan("coders/layers.2.mlp", "sparsify", 2, "topk", 2048, 12, transcode=True),
]


@torch.no_grad()
def measure(
    model: LlamaForCausalLM, plan: CoderPlan, coder: SparseCoder, rows: Rows
) -> dict[str, object]:
    """L0, variance explained, dead share and activity per window of a coder as shipped."""
    fired = torch.zeros(plan.width)
    windows_active = torch.zeros(plan.width)
    error = total = tokens = windows = 0.0
    for ids in rows.fixed(40):
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


def card(figures: dict[str, str], coders: list[dict[str, object]]) -> str:
    """The text of the model card."""
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


def parsed() -> argparse.Namespace:
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
    return arguments


def split(
    texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Tokens to train on, and those of one document in 50 that are held out."""
    held = [int(hashlib.sha256(t.encode()).hexdigest(), 16) % 50 == 0 for t in texts]
    documents = [np.array(ids, np.int32) for ids in tokenizer(texts)["input_ids"]]
    train = np.concatenate([d for d, h in zip(documents, held, strict=True) if not h])
    test = np.concatenate([d for d, h in zip(documents, held, strict=True) if h])
    print(f"{len(train):,} tokens to train on, {len(test):,} held out")
    return train, test


def main() -> None:
    arguments = parsed()
    texts = list(stdlib.texts())
    fingerprint = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    print(f"corpus {fingerprint}: {len(texts)} documents, Python {platform.python_version()}")
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    if arguments.coder:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
    else:
        tokenizer = train_tokenizer(texts, out)
    train, test = split(texts, tokenizer)
    if not arguments.coder:
        trained = train_model(Rows(train, 0), arguments.model_steps, BATCH)
        trained.to(torch.bfloat16).save_pretrained(out)
    # The coders see the weights as they are shipped.
    model = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32).to(DEVICE).eval()
    loss = evaluate(model, Rows(test, 1))
    print(f"model loss {loss:.3f}")
    plans = [p for p in PLANS if not arguments.coder or p.path in arguments.coder]
    for coder in train_coders(model, plans, Rows(train, 2), arguments.coder_steps, BATCH).values():
        save(coder, out / coder.plan.path)
    figures = {
        "data": f"Python {platform.python_version()} standard library, fingerprint `{fingerprint}`",
        "tokens in the corpus": f"{len(train):,} (and {len(test):,} held out)",
        "tokens trained on, model": f"{arguments.model_steps * BATCH * ROW:,}",
        "tokens trained on, each coder": f"{arguments.coder_steps * BATCH * (ROW - 1):,}",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}"
        f" (4 blocks, {WIDTH} wide, {VOCABULARY:,} tokens)",
        "held-out loss, nats a token": f"{loss:.3f}",
    }
    rows = Rows(test, 3)
    text = card(figures, [measure(model, p, load_coder(out / p.path), rows) for p in PLANS])
    (out / "README.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

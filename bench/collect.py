"""How close collecting comes to the bare limit, and what it costs in memory and disk.

The bare limit runs the same rows as far as the deepest hook, encodes them (a matrix product
and ``torch.topk``, or a comparison with the threshold) and keeps nothing, at the best of a few
batch sizes. Runs are interleaved in pairs; the figure is the median of the pairs' ratios.
The demo's figures are over as many tokens as a run reads unless told otherwise.

    python bench/collect.py            # all figures
    python bench/collect.py demo_one   # some: demo_one demo_all gpt2 memory latents
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from autointerp.examples.documents import Geometry
from autointerp.examples.harvest import collect
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions
from autointerp.examples.reservoir import Reservoir
from autointerp.examples.stdlib import texts
from autointerp.examples.streaming import peak_memory
from autointerp.examples.tally import Chunk, CoderTally, PairLog
from autointerp.sections import DEMO_CODERS
from autointerp.subject.activation_functions import TopK
from autointerp.subject.coders import SparseCoder
from autointerp.subject.loading import DEMO, load_subject
from autointerp.subject.model import Subject

BATCH_TOKENS = (1024, 2048, 4096, 8192)


def emit(figure: str, value: float, unit: str, **details: object) -> None:
    print(
        json.dumps({"bench": "collect", "figure": figure, "value": value, "unit": unit} | details),
        flush=True,
    )


def demo_coders(subject: Subject) -> dict[str, Attached]:
    from autointerp.subject.checkpoints import load_coder

    found = {}
    for path in sorted((DEMO / "coders").iterdir()):
        coder = load_coder(path)
        hook = subject.hook_point(coder.info.hook or path.name)
        found[path.name] = Attached(coder, hook)
    return found


def bare_limit(subject: Subject, coders: list[Attached], rows: list[np.ndarray]) -> float:
    """Tokens a second of forward and encode alone."""
    hooks = sorted({a.hook for a in coders})
    modules = dict(subject.model.named_modules())
    states: dict[str, torch.Tensor] = {}

    class StopForward(BaseException):
        pass

    def keep(name: str, value: object) -> None:
        states[name] = value[0] if isinstance(value, tuple) else value
        if len(states) == len(hooks):
            raise StopForward

    handles = [
        modules[h.module].register_forward_pre_hook(lambda _m, a, n=str(h): keep(n, a[0]))
        if h.side == "input"
        else modules[h.module].register_forward_hook(lambda _m, _a, out, n=str(h): keep(n, out))
        for h in hooks
    ]
    extra = int(subject.bos_id is not None)
    rows = sorted(rows, key=len, reverse=True)
    began, done = time.perf_counter(), 0
    with torch.inference_mode():
        while done < len(rows):
            part = rows[done : done + max(1, subject.batch_tokens // (len(rows[done]) + extra))]
            ids = np.full((len(part), len(part[0]) + extra), subject.bos_id or 0, np.int64)
            for line, row in zip(ids, part, strict=True):
                line[extra : extra + len(row)] = row
            states.clear()
            with contextlib.suppress(StopForward):
                subject.model(torch.from_numpy(ids), use_cache=False)
            for coder, hook, _ in coders:
                select(coder, states[str(hook)][:, extra:].flatten(0, 1))
            done += len(part)
    seconds = time.perf_counter() - began
    for handle in handles:
        handle.remove()
    return sum(map(len, rows)) / seconds


def select(coder: SparseCoder, x: torch.Tensor, block: int = 1024) -> None:
    """Encode in plain torch, a block of tokens at a time so that it stays in cache."""
    for part in x.split(block):
        pre = torch.addmm(coder.b_enc, part, coder.W_enc)
        if isinstance(coder.activation, TopK):
            torch.topk(pre, coder.activation.k, dim=-1, sorted=False)
        else:
            (pre > coder.activation.threshold).nonzero()  # type: ignore[attr-defined]


def rows_of(subject: Subject, documents: list[str], tokens: int) -> list[np.ndarray]:
    geometry = Geometry.of(32, subject.context_length)
    rows: list[np.ndarray] = []
    for ids in subject.encode_texts(documents):
        ids = ids[: tokens - sum(map(len, rows))]
        rows += [ids[low:high] for low, high in geometry.rows(len(ids), 0) if high > low]
    return rows


def over_limit(figure: str, subject: Subject, coders: dict[str, Attached], tokens: int) -> None:
    documents = list(islice(texts(), tokens // 500))
    rows = rows_of(subject, documents, tokens)
    attached = list(coders.values())
    speeds = {}
    some = rows[: max(8, len(rows) // 4)]
    bare_limit(subject, attached, some[:8])  # the first forward pass is slower
    for size in BATCH_TOKENS:
        subject.batch_tokens = size
        speeds[size] = max(bare_limit(subject, attached, some) for _ in range(2))
    best = max(speeds, key=lambda size: speeds[size])
    subject.batch_tokens = best
    ratios, ours, bare = [], [], []
    for pair in range(5):

        def full() -> None:
            ours.append(full_collect(subject, coders, documents, tokens))

        def limit() -> None:
            bare.append(bare_limit(subject, attached, rows))

        steps: list[Callable[[], None]] = [full, limit]
        for step in steps if pair % 2 else reversed(steps):
            step()
        ratios.append(ours[-1] / bare[-1])
    emit(
        figure,
        statistics.median(ratios),
        "ratio",
        pairs=[round(r, 3) for r in ratios],
        tokens_per_second=statistics.median(ours),
        limit_tokens_per_second=statistics.median(bare),
        batch_tokens=best,
        coders=list(coders),
        tokens=tokens,
    )


def full_collect(
    subject: Subject, coders: dict[str, Attached], documents: list[str], tokens: int
) -> float:
    """Tokens a second of a whole collect, from text to finished store."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        store = collect(
            subject, coders, CorpusOptions(tokens=tokens), ExampleOptions(), Path(folder) / "run",
            texts=iter(documents), force=True,
        )  # fmt: skip
        return store.token_count / (time.perf_counter() - began)


def demo_one(tokens: int) -> None:
    subject = load_subject("demo")
    coders = demo_coders(subject)
    for name in ("layers.1", "layers.0"):
        figure = "collect_over_limit" if name == "layers.1" else f"collect_over_limit_{name}"
        over_limit(figure, subject, {name: coders[name]}, tokens)


def demo_all(tokens: int) -> None:
    subject = load_subject("demo")
    over_limit("collect_over_limit_all", subject, demo_coders(subject), tokens)


def gpt2(tokens: int) -> None:
    """A random model of GPT-2 small's size, with a 24,576-wide TopK coder at block 6."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    tokenizer = load_subject("demo").tokenizer
    model = GPT2LMHeadModel(GPT2Config()).eval().requires_grad_(False)
    subject = Subject(model, tokenizer, name="random GPT-2 small")
    W_enc = torch.randn(768, 24576) / 768**0.5
    coder = SparseCoder.assemble(
        W_enc, W_enc.T.contiguous() / 100, torch.zeros(24576), torch.zeros(768), TopK(32),
        subtract_b_dec=False,
    )  # fmt: skip
    hook = subject.hook_point("h.6")
    over_limit("collect_over_limit_gpt2", subject, {"h.6": Attached(coder, hook)}, tokens)


def endless() -> Iterator[str]:
    """The standard library over and over, each time as other documents."""
    round_number = 0
    while True:
        for text in texts():
            yield f"# {round_number}\n{text}" if round_number else text
        round_number += 1


def memory(tokens: int) -> None:
    """Peak memory and disk at ``tokens`` and at four times as many, each in its own process,
    with the coders of the default run."""
    found = {}
    for times in (1, 4):
        command = [sys.executable, __file__, "--measure", str(tokens * times)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[times] = json.loads(out)
    for what in ("peak_memory_bytes", "disk_bytes"):
        ratio = found[4][what] / found[1][what]
        emit(f"{what}_growth", ratio, "ratio", at=[found[1][what], found[4][what]], tokens=tokens)


def measure(tokens: int) -> None:
    subject = load_subject("demo")
    coders = demo_coders(subject)
    coders = {name: coders[name] for name in DEMO_CODERS}
    with tempfile.TemporaryDirectory() as folder:
        collect(
            subject, coders, CorpusOptions(tokens=tokens), ExampleOptions(), folder,
            texts=endless(), force=True,
        )  # fmt: skip
        files = [p for p in Path(folder).rglob("*") if p.is_file()]
        disk = sum(p.stat().st_size for p in files if p.name not in ("tokens.bin", "documents.bin"))
    print(json.dumps({"peak_memory_bytes": peak_memory(), "disk_bytes": disk}))


def latents(tokens: int, width: int = 262_144, active: int = 64) -> None:
    """Working memory a latent, with synthetic activations that fill the reservoirs."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        before = resident()
        tally = CoderTally(width, ExampleOptions().keep, PairLog(Path(folder) / "pairs"))
        for start in range(0, tokens, 16384):
            chunk = synthetic_chunk(start, 16384, generator)
            acts = 16384 * active
            positions = np.repeat(np.arange(16384, dtype=np.int32), active)
            owners = generator.integers(0, width, acts, dtype=np.int32)
            tally.ingest(chunk, positions, owners, generator.random(acts, np.float32) + 0.1)
        tally.compact(np.arange(4096, dtype=np.uint32))
        filled = [
            float((r.counts() / r.keep).mean())
            for r in tally.reservoirs
            if isinstance(r, Reservoir)
        ]
        peak = peak_memory() - before
    emit("bytes_per_latent", peak / width, "bytes", latents=width, filled=filled, tokens=tokens)


def synthetic_chunk(start: int, size: int, generator: np.random.Generator) -> Chunk:
    windows = size // 32
    return Chunk(
        tokens=np.zeros(size, np.int32),
        window_of=np.repeat(np.arange(windows, dtype=np.int32), 32),
        position=np.tile(np.arange(32, dtype=np.uint8), windows),
        numbers=np.arange(windows, dtype=np.uint32) + np.uint32(start // 32),
        hashes=generator.integers(0, 2**64, windows, dtype=np.uint64),
        splits=generator.choice(3, windows, p=[0.4, 0.2, 0.4]).astype(np.int8),
        in_background=np.full(windows, start // 32 < 4096),
    )


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


FIGURES = {
    "demo_one": (demo_one, 1_000_000),
    "demo_all": (demo_all, 1_000_000),
    "gpt2": (gpt2, 20_000),
    "memory": (memory, 1_000_000),
    "latents": (latents, 3_000_000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, []], metavar="FIGURE")
    parser.add_argument("--tokens", type=int, help="instead of each figure's own number")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    for name in arguments.figures or FIGURES:
        function, tokens = FIGURES[name]
        function(arguments.tokens or tokens)


if __name__ == "__main__":
    main()

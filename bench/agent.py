"""What the agent costs a latent: requests and prompt tokens, with the oracle as its model.

Usage: python bench/agent.py [LATENTS]. Prints one JSON object a figure. The oracle's first
hypotheses are wrong for every latent (``tests/oracle.py``). Latents that never fire, or in too
few windows, ask nothing and are left out. Prompt tokens are characters of the messages and of
the reply's JSON schema, over four.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from oracle import Oracle
from oracle_world import OracleWorld
from planted import build_truth, write_corpus
from planted_coders import Planted, write_subject

CALLS_BAR, TOKENS_BAR = 10, 40_000
CHARACTERS = 4  # a token
UNASKED = ("rare", "dead")


class Counting(Oracle):
    """The oracle, adding up the characters that it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = self.schemas = self.shared = 0
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, body: dict[str, Any]) -> Any:
        texts = [message["content"] for message in body["messages"]]
        with self._lock:
            self.messages += sum(map(len, texts))
            self.shared += len(texts[0]) if texts[0] in self._seen else 0
            self.schemas += len(json.dumps(body.get("response_format", "")))
            self._seen.add(texts[0])
        return super().__call__(body)


def world(folder: Path) -> OracleWorld:
    """The planted subject, written and collected."""
    truth = build_truth()
    texts = write_corpus(folder / "corpus.jsonl")
    files = write_subject(truth, folder)
    return OracleWorld.of(Planted(truth, files, folder / "corpus.jsonl", texts), folder / "store")


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subject = world(folder)
        latents = [one for one in subject.truth.latents if one.family not in UNASKED]
        latents = latents[: int(sys.argv[1])] if len(sys.argv) > 1 else latents
        oracle = Counting()
        found = subject.explain(latents, oracle, folder)
        pairs = zip(latents, found.explanations, strict=True)
        agreeing = [subject.agreement(one, explanation.text) >= 0.95 for one, explanation in pairs]
    requests = [explanation.cost.requests for explanation in found.explanations]
    texts = [explanation.details["measured"] for explanation in found.explanations]
    per_latent = CHARACTERS * len(latents)
    figures: list[dict[str, Any]] = [
        {"figure": "calls_per_latent", "value": round(mean(requests), 2), "bar": CALLS_BAR,
         "most": max(requests), "latents": len(latents)},
        {"figure": "prompt_tokens_per_latent",
         "value": round((oracle.messages + oracle.schemas) / per_latent), "bar": TOKENS_BAR,
         "schemas": round(oracle.schemas / per_latent),
         "system_turns_seen_before": round(oracle.shared / per_latent)},
        {"figure": "probes_per_latent", "value": round(mean(texts), 1), "most": max(texts)},
        {"figure": "agreeing_with_the_rule", "value": round(mean(agreeing), 3)},
    ]  # fmt: skip
    for figure in figures:
        print(json.dumps(figure))


if __name__ == "__main__":
    main()

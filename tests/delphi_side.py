"""Runs eai-delphi on given activations with a given judge, in an interpreter that has it.

Usage: PYTHON tests/delphi_side.py INPUT.npz OUTPUT.json. The input holds what a harvest found;
the output, for every latent and scorer, the texts of each prompt, the labels and the counts. The
packages that only its servers and other scorers need are stood in for by empty ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.abc
import importlib.machinery
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

ABSENT = {"vllm", "faiss", "sentence_transformers", "sparsify", "plotly"}
EXPLANATION = "a thing"


class _Empty(types.ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def label(text: str) -> int:
    """The judge that both sides have: it says yes to every other text."""
    return hashlib.blake2b(text.encode(), digest_size=1).digest()[0] & 1


class Vocabulary:
    """All that is asked of a tokenizer."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def batch_decode(self, ids: Any) -> list[str]:
        return [self.texts[int(i)] for i in ids]


def client() -> Any:
    from delphi.clients.client import Client, Response

    class Judging(Client):
        """Answers with ``label`` of every text, but nothing usable for every seventh prompt."""

        def __init__(self) -> None:
            super().__init__("judge")
            self.prompts: list[list[str]] = []

        async def generate(self, prompt: Any, **_: Any) -> Any:
            question = prompt[-1]["content"]
            texts = re.findall(r"^Example \d+: (.*)$", question, re.MULTILINE)
            self.prompts.append(texts)
            usable = usable_number(len(self.prompts) - 1)
            return Response(str([label(t) for t in texts]) if usable else "no idea")

    return Judging()


def usable_number(prompt: int) -> bool:
    """Whether the judge answers a latent's prompt of this number."""
    return prompt % 7 != 6


def record_of(found: Any, latent: int, vocabulary: Vocabulary) -> Any:
    """The latent with its windows, made and sampled as in a run with the defaults."""
    import torch
    from delphi.config import ConstructorConfig, SamplerConfig
    from delphi.latents import Latent, LatentRecord, constructor, sampler
    from delphi.latents.latents import ActivationData

    mine = found["locations"][:, 2] == latent
    data = ActivationData(
        torch.from_numpy(found["locations"][mine]), torch.from_numpy(found["activations"][mine])
    )
    record = constructor(
        LatentRecord(Latent("layers.1", latent)),
        data,
        ConstructorConfig(),
        torch.from_numpy(found["tokens"]),
        vocabulary,
    )
    return None if record is None else sampler(record, SamplerConfig(), vocabulary)


def scored(record: Any, kind: str) -> dict[str, Any]:
    """One latent's prompts, outcomes and metrics with a scorer made for it alone."""
    import pandas as pd
    from delphi.log.result_analysis import compute_classification_metrics, compute_confusion
    from delphi.scorers import DetectionScorer, FuzzingScorer

    judge = client()
    scorer = {"detection": DetectionScorer, "fuzzing": FuzzingScorer}[kind]
    record.explanation = EXPLANATION
    outcomes = asyncio.run(scorer(judge, n_examples_shown=5)(record)).score
    rows = [{"activating": o.activating, "prediction": o.prediction} for o in outcomes]
    counts = compute_confusion(pd.DataFrame(rows))
    return {
        "prompts": judge.prompts,
        "outcomes": rows,
        "texts": ["".join(o.str_tokens) for o in outcomes],
        "distances": [o.distance for o in outcomes],
        "confusion": {name: int(count) for name, count in counts.items()},
        "metrics": {n: float(v) for n, v in compute_classification_metrics(counts).items()},
    }


def main(source: str, target: str) -> None:
    sys.meta_path.insert(0, StandIns())
    found = np.load(source)
    vocabulary = Vocabulary(found["vocabulary"].tolist())
    results = {}
    for latent in np.unique(found["locations"][:, 2]).tolist():
        record = record_of(found, latent, vocabulary)
        results[latent] = record and {k: scored(record, k) for k in ("detection", "fuzzing")}
    Path(target).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])

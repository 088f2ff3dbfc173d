"""The other side of ``bench/scoring.py``: eai-delphi scores latents, judged at once.

Usage: PYTHON bench/scoring_delphi.py FOLDER TOKENIZER REPEATS ITEMS…, with a python that has
eai-delphi. FOLDER holds its cache under ``latents``; ITEMS are numbers of items a prompt. Prints
one JSON object for each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from delphi_side import StandIns

sys.meta_path.insert(0, StandIns())

import orjson  # noqa: E402
from delphi.clients.client import Client, Response  # noqa: E402
from delphi.config import ConstructorConfig, SamplerConfig  # noqa: E402
from delphi.latents import LatentDataset  # noqa: E402
from delphi.pipeline import Pipe, Pipeline, process_wrapper  # noqa: E402
from delphi.scorers import DetectionScorer, FuzzingScorer  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

HOOK, CONCURRENCY = "layers.1", 10


class Instant(Client):
    """Answers at once, and keeps the prompts."""

    def __init__(self, items: int) -> None:
        super().__init__("judge")
        self.answer = str([i % 2 for i in range(items)])
        self.prompts: list[Any] = []

    async def generate(self, prompt: Any, **_: Any) -> Response:
        self.prompts.append(prompt)
        return Response(self.answer)


def store(result: Any, folder: Path) -> None:
    (folder / f"{result.record.latent}.txt").write_bytes(orjson.dumps(result.score))


async def scored(
    latents: Path, tokenizer: Any, explanations: dict[str, str], client: Instant, items: int
) -> int:
    """Build, ask, parse and store everything, as its own program does; how many items it was."""

    def explained(record: Any) -> Any:
        record.explanation = explanations[str(record.latent.latent_index)]
        return record

    found = 0

    def counted(result: Any, folder: Path) -> None:
        nonlocal found
        found += len(result.score)
        store(result, folder)

    with tempfile.TemporaryDirectory() as folder:
        scorers = []
        for scorer in (FuzzingScorer, DetectionScorer):
            target = Path(folder) / scorer.name
            target.mkdir()
            made = scorer(client, n_examples_shown=items, verbose=True)  # as its default is
            kept = partial(counted, folder=target)
            scorers.append(process_wrapper(made, preprocess=explained, postprocess=kept))
        dataset = LatentDataset(
            latents, SamplerConfig(), ConstructorConfig(), tokenizer, modules=[HOOK]
        )
        await Pipeline(dataset, Pipe(*scorers)).run(CONCURRENCY)
    return found


def main(folder: str, tokenizer: str, repeats: str, *numbers: str) -> None:
    explanations = json.loads((Path(folder) / "explanations.json").read_text())
    vocabulary = AutoTokenizer.from_pretrained(tokenizer)
    latents = Path(folder) / "latents"
    for items in map(int, numbers):
        rates = []
        for _ in range(int(repeats)):
            client = Instant(items)
            begin = time.perf_counter()
            found = asyncio.run(scored(latents, vocabulary, explanations, client, items))
            rates.append(found / (time.perf_counter() - begin))
        prompts = [[turn["content"] for turn in prompt] for prompt in client.prompts]
        print(json.dumps({"items": items, "rates": rates, "prompts": prompts}))


if __name__ == "__main__":
    main(*sys.argv[1:])

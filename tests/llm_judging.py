"""The LLM judge asked about made-up windows: what its tests share."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from given_sets import with_test
from llm_asking import run
from llm_server import Body, LLMServer

from autointerp.judges import NoVerdict, Verdict
from autointerp.judges.llm import LLMJudge, LLMJudgeOptions
from autointerp.latents import (
    Example,
    ExampleBlock,
    Explanation,
    Item,
    LabelledSet,
    LatentId,
    Score,
)
from autointerp.llm.client import Reply, Request, Usage
from autointerp.llm.templates import Templates
from autointerp.registry import scorers
from autointerp.sections import BudgetSection

LATENT = LatentId("layers.1", 7)
WEIRD = [
    'say "hi"',
    "two\nlines\r\n\tthree",
    "emoji 🎉 é",
    "error: \\n {{ x }}",
    "</explanation>",
    "",
]
LINE = re.compile(r'^\d+\. (\[".*"\])$', re.MULTILINE)


def examples(texts: Sequence[str], before: str = "left ") -> list[Example]:
    """A window of two tokens for each text, the text and its number, with one token before it."""
    n = len(texts)
    vocabulary = [*texts, *(f" #{i}" for i in range(n)), before]
    ids = np.array([[i, n + i] for i in range(n)], np.int32).reshape(n, 2)
    numbers, left = np.arange(n), np.full((n, 1), 2 * n, np.int32)
    hidden = np.full((n, 2), np.nan, np.float32)
    return ExampleBlock(LATENT, numbers, numbers, ids, hidden, left, vocabulary).examples()


def asked_texts(body: Body) -> list[str]:
    """The texts of a request's question, read back as the JSON that they are written in."""
    lines = LINE.findall(body["messages"][-1]["content"])
    return [json.loads(line)[1] for line in lines]


def truthful(body: Body) -> Any:
    """1 for texts with an even number."""
    return {"labels": [1 - int(text.rpartition("#")[2]) % 2 for text in asked_texts(body)]}


def judge_all(
    server: LLMServer,
    folder: Path,
    windows: Sequence[Example],
    explanation: str = "even numbers",
    budget: BudgetSection | None = None,
    **options: Any,
) -> list[Verdict | NoVerdict]:
    async def work(llms: Any) -> list[Verdict | NoVerdict]:
        client = llms.clients["judge"]
        judge = LLMJudge(LLMJudgeOptions(**options), client=client, templates=Templates())
        return await judge.detect(explanation, windows, latent=LATENT)

    return run(server, folder, work, budget)


def detection(server: LLMServer, folder: Path, sources: Sequence[Any], **options: Any) -> Score:
    """The detection score of one window of each source."""
    windows = examples([f"t{i}" for i in range(len(sources))])
    items = [
        Item(window, source == "activating", source, 0 if source == "activating" else None)
        for window, source in zip(windows, sources, strict=True)
    ]

    async def work(llms: Any) -> Score:
        client = llms.clients["judge"]
        judge = LLMJudge(LLMJudgeOptions(**options), client=client, templates=Templates())
        kind = scorers.get("detection")
        materials = with_test(LATENT, LabelledSet(LATENT, "test", items, {}, None, 0))
        explanation = Explanation(LATENT, "even numbers", "by hand")
        scorer = kind.implementation(kind.options(), judge=judge)
        score: Score = await scorer.score(explanation, materials)
        return score

    return run(server, folder, work)


@dataclass
class Listener:
    """Answers with noughts, and remembers what it was asked."""

    model: str = "listener"
    requests: list[Request] = field(default_factory=list)

    async def complete(self, request: Request) -> Reply:
        self.requests.append(request)
        assert request.schema is not None
        count = request.schema["properties"]["labels"]["minItems"]
        return Reply("", {"labels": [0] * count}, None, Usage(), False, "")

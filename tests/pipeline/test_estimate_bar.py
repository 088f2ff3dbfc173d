"""How often an estimate's interval holds what the run then costs, on the test server."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from llm_models import Model, plays_a_role
from llm_server import Body, LLMServer
from llm_values import random_answer
from planted_coders import Planted
from small_run import document, left_alone, settings

CONFIGURATIONS, HELD = 10, 9
WIDEST = 0.2

SINGLE = "explainer={kind: single_pass, count: COUNT, contrastive: CONTRASTIVE}"
EXPLAINERS = (  # and of how many latents the answers must be known to tell what else is asked
    (SINGLE, 0),
    (f"{SINGLE[:-1]}, revise: true}}", 5),
    ("explainer={kind: pattern}", 0),
    ("explainer={kind: agent, roles: llm, select: 10}", 5),
    ("explainer={tiers: [{kind: pattern}, {kind: single_pass}], escalate_below: 0.9}", 5),
)
SCORERS = ("detection", "fuzzing", "discrimination", "intruder")


@dataclass(frozen=True)
class Drawn:
    """One configuration: its overrides, its prices, how many latents are asked about first."""

    overrides: list[str]
    prices: dict[str, dict[str, float]]
    spend: int
    collected: bool


def drawn(seed: int, planted: Planted) -> Drawn:
    rng = random.Random(f"estimate {seed}")
    explainer, spend = EXPLAINERS[seed % len(EXPLAINERS)]
    for word, choices in (
        ("COUNT", ["20", "40"]),
        ("CONTRASTIVE", ["true", "false"]),
    ):
        explainer = explainer.replace(word, rng.choice(choices))
    judge = {"kind": "llm", "texts_per_prompt": rng.choice([5, 10])}
    judge["few_shot"] = rng.random() < 0.7
    kinds = [*rng.sample(SCORERS[1:], rng.randint(0, 1)), "detection"]
    scorers = [{"kind": k} if k == "intruder" else {"kind": k, "judge": judge} for k in kinds]
    latents = f"alive:{rng.randint(3, 6)}", f"alive:{rng.randint(3, 6)}"
    overrides = [
        *settings(planted, *latents),
        f"run.seed={seed}",
        explainer,
        f"scorers={json.dumps(scorers)}",
        f"examples.test.sampled={rng.choice([15, 30])}",
    ]
    prices = {
        name: {"prompt": rng.choice([0.5, 2.0]), "completion": rng.choice([2.0, 8.0])}
        for name in ("explainer", "judge")
    }
    return Drawn(overrides, prices, spend, spend > 0 or rng.random() < 0.5)


class Counting(LLMServer):
    """Adds up what it was asked, by the model's name; every answer is billed once. A model plays
    the agent's roles; all else gets an answer that fits."""

    def __init__(self) -> None:
        super().__init__(self._answered)
        self._model = Model()
        self.billed: dict[str, list[int]] = {}

    def _answered(self, body: Body) -> Any:
        if plays_a_role(body):
            return self._model(body)
        return random_answer(body, random.Random(json.dumps(body["messages"])))

    def _completion(self, body: Body, key: str, fault: str | None) -> Body:
        reply = super()._completion(body, key, fault)
        bill = self.billed.setdefault(body["model"], [0, 0, 0])
        usage = reply["usage"]
        for i, count in enumerate((1, usage["prompt_tokens"], usage["completion_tokens"])):
            bill[i] += count
        return reply


@dataclass(frozen=True)
class Compared:
    estimated: dict[str, list[float]]
    actual: dict[str, float]

    def holds(self, quantity: str) -> bool:
        low, _, high = self.estimated[quantity]
        return low <= self.actual[quantity] <= high

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {value[1]:.6g} for {self.actual[name]:.6g}"
            f" ({value[1] / max(1e-9, self.actual[name]) - 1:+.1%})"
            for name, value in self.estimated.items()
        )


def compared(
    seed: int, planted: Planted, folder: Path, capsys: pytest.CaptureFixture[str]
) -> Compared:
    """One estimate, and the run that it was about."""
    chosen = drawn(seed, planted)
    with Counting() as server:
        llms = {
            name: {"model": name, "base_url": server.url, "prices": prices}
            for name, prices in chosen.prices.items()
        }
        journal = json.dumps(str(folder / "journal.sqlite"))
        asked = [*chosen.overrides, f"llms={json.dumps(llms)}", f"journal={journal}"]
        run = folder / "run"
        if chosen.collected:
            left_alone(folder, asked, "collect")
            capsys.readouterr()
        spend = ["--spend", str(chosen.spend)] if chosen.spend else []
        told = document(capsys, "estimate", "--run", str(run), *asked, *spend)
        document(capsys, "run", "--run", str(run), *asked)
    shutil.rmtree(run)
    billed = server.billed
    actual = {
        "prompt_tokens": float(sum(bill[1] for bill in billed.values())),
        "dollars": sum(
            (bill[1] * chosen.prices[name]["prompt"] + bill[2] * chosen.prices[name]["completion"])
            / 1e6
            for name, bill in billed.items()
        ),
    }
    return Compared({name: told[name] for name in actual}, actual)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("at_once")
def test_nine_of_ten_intervals_hold_the_actual_cost(
    tmp_path: Path,
    planted: Planted,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = []
    for seed in range(CONFIGURATIONS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        found.append(compared(seed, planted, folder, capsys))
    for one in found:
        for low, middle, high in one.estimated.values():
            assert high - low <= 2 * WIDEST * middle + 1e-5  # they are rounded
    assert_held(found)


def assert_held(found: Sequence[Compared]) -> None:
    for quantity in ("prompt_tokens", "dollars"):
        misses = [str(one) for one in found if not one.holds(quantity)]
        assert len(found) - len(misses) >= HELD, misses

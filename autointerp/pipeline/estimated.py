"""The document of an estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from autointerp.config import RunConfig
from autointerp.examples.store import ExampleStore
from autointerp.latents import Cost
from autointerp.llm.keys import has_key
from autointerp.llm.pricing import prices_of
from autointerp.pipeline import building, directory
from autointerp.pipeline.columns import QUANTITIES
from autointerp.pipeline.extrapolation import GUESSED, WIDEST, Interval, Totals

FIRST_TOKEN, TOKENS_PER_SECOND = 1.0, 50.0  # of an endpoint whose speed nobody has measured
JOURNAL_BYTES = 500  # of a reply in the journal, beside four for each of its tokens
# Factors that times may be off by, either way: of requests that nobody has timed, of others, and
# of work on this machine.
UNTIMED, TIMED, MACHINE = 2.0, 1.25, 1.4

Document = dict[str, Any]


class Took(NamedTuple):
    """What a rehearsal took: how many latents, seconds, and bytes of results."""

    latents: int
    seconds: float
    result_bytes: int

    def each(self, quantity: str) -> float:
        """Of one latent."""
        return float(getattr(self, quantity)) / max(1, self.latents)


@dataclass(frozen=True)
class Rehearsed:
    """What came of a rehearsal: the totals, what the run has spent before, of how many of the
    sample's latents real replies were there, what it took, and whether the run has its examples."""

    totals: Totals
    spent: Cost
    store: ExampleStore
    measured: int
    took: Took
    collected: bool


def document(config: RunConfig, r: Rehearsed, latency: float | None) -> Document:
    """What all of the run costs, however often it is started; ``latency`` is in seconds a request.

    Intervals are lists of low, middle and high.
    """
    totals = r.totals
    requests, *others = (totals.interval(name) for name in QUANTITIES)
    machine = _machine_seconds(config, r)
    waiting = _waiting_seconds(config, totals, latency)
    work = (machine, MACHINE)
    return {
        "run": str(config.run.path),
        "latents": totals.sample.planned,
        "sampled": len(totals.sample.scored),
        "sampled_explaining": len(totals.sample.explained),
        "measured": r.measured,
        "requests": round(requests[1]),
        **dict(zip(QUANTITIES[1:], map(_rounded, others), strict=True)),
        "hours": _hours([work, (waiting, UNTIMED if latency is None else TIMED)]),
        "device_hours": _hours([work]),
        "disk_bytes": _disk_bytes(config, r),
        "by_llm": _by_llm(config, totals),
        "by_purpose": _by(totals, "by_part"),
        "spent": {name: getattr(r.spent, name) for name in QUANTITIES},
        "budget": config.budget.model_dump(),
        "notes": _notes(config, r, latency),
    }


def _rounded(interval: Interval) -> Interval:
    return [round(value, 6) for value in interval]


def _by_llm(config: RunConfig, totals: Totals) -> Document:
    asked = _by(totals, "by_model")
    return {
        name: {
            "model": config.llms[name].model,
            **quantities,
            "priced": prices_of(config.llms[name]) is not None,
        }
        for name, quantities in asked.items()
        if quantities["requests"]
    }


def _by(totals: Totals, what: str) -> dict[str, Document]:
    columns = {name: getattr(totals, what)(name) for name in QUANTITIES}
    rows = columns["requests"]
    return {row: {name: round(column[row], 6) for name, column in columns.items()} for row in rows}


def _machine_seconds(config: RunConfig, r: Rehearsed) -> float:
    """Reading the corpus, unless that was done, and all that is measured and judged here."""
    reading = 0.0
    if not r.collected:
        reading = config.corpus.tokens / r.store.header["report"]["tokens_per_second"]
    return reading + r.took.each("seconds") * r.totals.sample.planned


def _waiting_seconds(config: RunConfig, totals: Totals, latency: float | None) -> float:
    """For language models, one after another."""
    requests, completions = totals.by_model("requests"), totals.by_model("completion_tokens")
    seconds = 0.0
    for name, count in requests.items():
        section = config.llms[name]
        if section.waves is not None:
            continue  # nobody knows how long a wave takes
        guessed = FIRST_TOKEN + completions[name] / max(1.0, count) / TOKENS_PER_SECOND
        by_speed = count * (guessed if latency is None else latency) / section.concurrency
        by_limit = count * 60 / section.requests_per_minute if section.requests_per_minute else 0.0
        seconds += max(by_speed, by_limit)
    return seconds


def _hours(parts: list[tuple[float, float]]) -> Interval:
    """The sum of times in seconds, each with the factor that it may be off by."""
    low = sum(seconds / off for seconds, off in parts)
    high = sum(seconds * off for seconds, off in parts)
    middle = sum(seconds for seconds, _ in parts)
    return [round(seconds / 3600, 4) for seconds in (low, middle, high)]


def _disk_bytes(config: RunConfig, r: Rehearsed) -> int:
    """Of the run directory and of what the journal grows by."""
    examples = config.run.path / directory.EXAMPLES
    if r.collected:
        store = directory.size(examples)
    else:
        options = building.example_options(config)
        latents = sum(record.width for record in r.store.coders.values())
        store = directory.store_bytes(
            config.corpus.tokens, latents, sum(options.keep), options.window
        )
    results = r.took.each("result_bytes") * r.totals.sample.planned
    replies = r.totals.interval("requests")[1] * JOURNAL_BYTES
    said = r.totals.interval("completion_tokens")[1] * 4
    return round(store + results + replies + said)


def _notes(config: RunConfig, r: Rehearsed, latency: float | None) -> list[str]:
    """What the figures rest on, where that is not what was measured."""
    totals, notes = r.totals, []
    asked = {name: model for name, model in totals.models.items() if model.asked}
    for name, model in asked.items():
        if not model.counter.exact and totals.guess(name) == GUESSED:
            notes.append(f"llms.{name}: tokens are guessed from characters, four to a token")
        if config.llms[name].waves is not None:
            notes.append(f"llms.{name}: asked in waves of up to a day each, left out of hours")
        if prices_of(config.llms[name]) is None:
            notes.append(
                f"llms.{name}: no known price, left out of dollars; set llms.{name}.prices"
            )
    keyless = {s.api_key_env for name in asked if not has_key(s := config.llms[name])}
    for variable in sorted(keyless):
        notes.append(f"the run needs an API key in the environment variable {variable}")
    off = max(totals.sampling_error(of) for of in ("prompt_tokens", "dollars"))
    if off > WIDEST:
        latents = min(len(totals.sample.explained), len(totals.sample.scored))
        notes.append(
            f"{latents} latents tell the cost to ±{off:.0%} only; the intervals shown are"
            f" ±{WIDEST:.0%}"
        )
    if asked and not r.measured:
        notes.append("replies are pretended; --spend N asks about N latents for real, and the run"
                     " finds the replies in the journal")  # fmt: skip
    if asked and latency is None:
        notes.append("the hours are a guess: no request has been timed yet")
    free = directory.free_bytes(config.run.path)
    if not r.collected and free < _disk_bytes(config, r):
        notes.append(f"the disk of {config.run.path} has {free / 1e6:,.0f} MB free")
    if not r.collected and r.store.token_count < config.corpus.tokens:
        notes.append(
            f"from {r.store.token_count:,} tokens of the corpus; `autointerp collect` reads it all"
        )
    return notes
